"""How the structures of a head are dealt to the steps of a run, also where the run was changed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from gfm_pretrain.data.mixture import n_dealt, phases


@dataclass(frozen=True, kw_only=True)
class Deal:
    """The sequence of a head: its order, and how much of it each step takes."""

    key: str
    """Names the order: the head's name when it joined the run, whatever it is called since."""
    batch_size: Fraction
    """Structures in a step, on average."""
    since: int = 0
    """First step with this batch size: where the head joined, or the mixture last changed."""
    before: int = 0
    """Structures that had been dealt by then."""
    phase: Fraction = Fraction(0)
    """When odd structures come, see `mixture.phases`."""

    def n_dealt(self, step: int) -> int:
        """How many structures all steps before `step` have taken."""
        return self.before + n_dealt(step - self.since, self.batch_size, self.phase)

    def numbers(self, step: int) -> range:
        """Which structures of the sequence a step takes."""
        return range(self.n_dealt(step), self.n_dealt(step + 1))

    def with_batch_size(self, batch_size: Fraction, *, step: int) -> "Deal":
        """The same sequence at another pace from `step` on: nothing twice, nothing left out."""
        if batch_size == self.batch_size:
            return self
        before = self.n_dealt(step)
        return replace(self, batch_size=batch_size, since=step, before=before)

    def to_plain(self) -> dict[str, Any]:
        """Plain values for JSON."""
        exact = {"batch_size": _exact(self.batch_size), "phase": _exact(self.phase)}
        return {"key": self.key, "since": self.since, "before": self.before, **exact}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Deal":
        """What `to_plain` gave."""
        exact = {name: Fraction(plain.get(name, 0)) for name in ("batch_size", "phase")}
        return cls(**{**plain, **exact})


def first_deals(batch_sizes: Mapping[str, Fraction]) -> dict[str, Deal]:
    """Of a run that begins."""
    phase = phases(batch_sizes)
    return {
        name: Deal(key=name, batch_size=size, phase=phase[name])
        for name, size in batch_sizes.items()
    }


def continued_deals(
    old: Mapping[str, Deal], batch_sizes: Mapping[str, Fraction], *, step: int
) -> dict[str, Deal]:
    """Of a run that goes on, with the heads and batch sizes it now has.

    Args:
        old: Of the heads it had, by their names of now.
        batch_sizes: Of the heads it has now.
        step: From which on this holds.
    """
    taken = {old[name].key for name in batch_sizes if name in old}
    phase = phases(batch_sizes)
    deals: dict[str, Deal] = {}
    for name, size in batch_sizes.items():
        if name in old:
            deals[name] = old[name].with_batch_size(size, step=step)
        else:
            key = _unused(name, taken, step)
            deals[name] = Deal(key=key, batch_size=size, since=step, phase=phase[name])
    return deals


def _unused(name: str, taken: Iterable[str], step: int) -> str:
    """A key for a new head: its name, unless a head that was renamed goes on under it."""
    return f"{name}@{step}" if name in taken else name


def _exact(number: Fraction) -> str:
    return f"{number.numerator}/{number.denominator}"
