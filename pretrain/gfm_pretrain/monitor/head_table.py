"""What a run has reached, head by head, in columns."""

from collections.abc import Callable
from dataclasses import dataclass

from gfm_pretrain.monitor.state import RunState
from gfm_pretrain.monitor.wording import number
from gfm_pretrain.table import text_table

ALL = "all"
"""Row of what is summed over heads."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One number of each head."""

    title: str
    """With the unit."""
    of_head: Callable[[RunState, str], float | None]
    """The number of a head, if there is one."""
    of_all: Callable[[RunState], float | None]
    """Over all heads, if that means something."""
    spared: int
    """Order in which columns are left out where there is no room, the smallest first."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A quantity, written out."""

    title: str
    """Of the quantity."""
    cells: tuple[str, ...]
    """One for each row."""
    spared: int
    """See `Quantity`."""

    @property
    def width(self) -> int:
        """Characters that it takes."""
        return max(map(len, (self.title, *self.cells)))


def _error(key: str, title: str, *, spared: int) -> Quantity:
    def of_head(state: RunState, head: str) -> float | None:
        error = state.errors.get(head, {}).get(key)
        return None if error is None else 1e3 * error

    return Quantity(title=title, of_head=of_head, of_all=lambda _: None, spared=spared)


def _rate(state: RunState, head: str) -> float | None:
    return state.rates.get("heads", {}).get(head, {}).get("structures")


def _epochs(state: RunState, head: str) -> float | None:
    return state.rates.get("heads", {}).get(head, {}).get("epochs")


QUANTITIES = (
    Quantity(title="loss", of_head=RunState.loss_of, of_all=lambda state: state.loss, spared=9),
    _error("energy_mae_per_atom", "E meV/atom", spared=3),
    _error("forces_mae", "F meV/Å", spared=4),
    _error("stress_mae", "S meV/Å³", spared=0),
    Quantity(
        title="structures/s",
        of_head=_rate,
        of_all=lambda state: state.rates.get("per_second", {}).get("structures"),
        spared=2,
    ),
    Quantity(title="epochs", of_head=_epochs, of_all=lambda _: None, spared=1),
)
"""Errors are mean absolute errors of the last evaluation."""


def fill(state: RunState, *, most: int | None = None) -> tuple[list[str], list[Column]]:
    """Names of the rows, and the columns in which some head has something.

    There is a row for each head and one for all. Of more heads than `most` rows hold, some are
    left out, which a row says.
    """
    heads = state.heads
    shown = heads if most is None or len(heads) < most else heads[: max(1, most - 2)]
    names = list(shown)
    if len(shown) < len(heads):
        names.append(f"… {len(heads) - len(shown)} more")
    if len(heads) > 1:
        names.append(ALL)
    return names, [
        Column(title=q.title, cells=tuple(_cell(q, state, n) for n in names), spared=q.spared)
        for q in QUANTITIES
        if any(q.of_head(state, head) is not None for head in heads)
    ]


def head_table(state: RunState) -> str:
    """All of it as text."""
    names, columns = fill(state)
    rows = zip(names, *(column.cells for column in columns), strict=True)
    return text_table(("head", *(column.title for column in columns)), list(rows))


def _cell(quantity: Quantity, state: RunState, name: str) -> str:
    if name in state.heads:
        return number(quantity.of_head(state, name))
    value = quantity.of_all(state) if name == ALL else None
    return "" if value is None else number(value)
