"""Whether a step may change the weights: its losses and its gradient are finite and no spike."""

import math
import statistics
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

ROBUST = 1.4826
"""Standard deviation over median absolute deviation, of a normal distribution."""
SMALLEST_LOSS = 1e-300
"""In place of a loss of zero, which has no logarithm."""


class TrainingError(ValueError):
    """Training went wrong in a way that continuing would hide."""


@dataclass(frozen=True, kw_only=True)
class GuardOptions:
    """When a step is skipped, and how many may be. A skipped step changes nothing but the count."""

    spike_factor: float | None = 20.0
    """A loss is a spike if it is so many times the median of the head's recent losses …"""

    spike_deviations: float = 8.0
    """… and its logarithm as many robust standard deviations above theirs. `spike_factor: null`
    turns this off; losses and gradients that are not finite are always skipped."""

    window: int = 64
    """How many losses of a head are recent. Before there are as many, and while the learning rate
    is still rising, nothing is a spike."""

    most_in_a_row: int = 3
    """Steps in a row that may be skipped; the next one ends the run."""

    most_recent: int = 20
    """Steps of the last `recent_steps` that may be skipped; the next one ends the run."""

    recent_steps: int = 1000
    """How far back `most_recent` looks."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: naming the option.
        """
        if self.spike_factor is not None and not self.spike_factor > 1:
            raise ValueError(f"guard.spike_factor must be above 1, got {self.spike_factor}")
        for name, least in (("spike_deviations", 0), ("most_in_a_row", 0), ("most_recent", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"guard.{name} must not be negative, got {getattr(self, name)}")
        for name, least in (("window", 8), ("recent_steps", 1)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"guard.{name} must be at least {least}, got {getattr(self, name)}"
                )


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Why a step is skipped."""

    head: str
    """Name of the head; `backbone` where it is its gradient alone."""
    what: Literal["loss", "gradient", "spike"]
    """A loss or a gradient that is not finite, or a loss far above the usual."""
    value: float
    """The loss, or the squared norm of the gradient."""
    usual: float | None = None
    """Median of the head's recent losses, for a spike."""


class Guard:
    """Judges steps. From the same numbers all ranks come to the same verdicts.

    Args:
        options: What is too much.
        warmup_steps: First steps of the run, in which nothing is a spike.
    """

    def __init__(self, options: GuardOptions, *, warmup_steps: int) -> None:
        self.options = options
        self.warmup_steps = warmup_steps
        self.skipped: dict[str, int] = {}
        self._recent: dict[str, deque[float]] = {}
        self._skipped_steps: list[int] = []

    def judge(
        self, step: int, losses: Mapping[str, float], squared_norms: Mapping[str, float]
    ) -> tuple[Trouble, ...]:
        """What is wrong with a step; empty if the weights may change.

        Args:
            step: Steps before this one.
            losses: Of the heads that have structures in this step.
            squared_norms: Of the gradient of each part, `backbone` and heads.
        """
        troubles = (
            _not_finite("loss", losses)
            or _not_finite("gradient", squared_norms)
            or tuple(self._spikes(losses if step >= self.warmup_steps else {}))
        )
        if troubles:
            self._count(step, troubles)
        else:
            self._remember(losses)
        return troubles

    def check(self, step: int) -> str | None:
        """Why the run must end after the step with this number, or None."""
        steps = self._skipped_steps
        in_a_row = next((n for n in range(len(steps)) if steps[-1 - n] != step - n), len(steps))
        if in_a_row > self.options.most_in_a_row:
            return f"{in_a_row} steps in a row were skipped"
        if len(steps) > self.options.most_recent:
            return f"{len(steps)} of the last {self.options.recent_steps} steps were skipped"
        return None

    def facts(self) -> dict[str, Any]:
        """Plain values that belong to the state of the run."""
        return {
            "recent": {head: list(losses) for head, losses in self._recent.items()},
            "skipped": dict(self.skipped),
            "skipped_steps": list(self._skipped_steps),
        }

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Put back what `facts` gave."""
        self._recent = {head: self._window(losses) for head, losses in facts["recent"].items()}
        self.skipped = dict(facts["skipped"])
        self._skipped_steps = list(facts["skipped_steps"])

    def _spikes(self, losses: Mapping[str, float]) -> Iterable[Trouble]:
        for head, loss in losses.items():
            recent = self._recent.get(head, ())
            if len(recent) == self.options.window and loss > self._highest(recent):
                yield Trouble(head=head, what="spike", value=loss, usual=statistics.median(recent))

    def _highest(self, recent: Iterable[float]) -> float:
        """The largest loss that is no spike."""
        if self.options.spike_factor is None:
            return math.inf
        logs = [math.log(max(loss, SMALLEST_LOSS)) for loss in recent]
        median = statistics.median(logs)
        deviation = ROBUST * statistics.median(abs(value - median) for value in logs)
        above = max(math.log(self.options.spike_factor), self.options.spike_deviations * deviation)
        return math.exp(min(median + above, 700.0))  # the exponential of more is infinite

    def _count(self, step: int, troubles: Iterable[Trouble]) -> None:
        for trouble in troubles:
            self.skipped[trouble.head] = self.skipped.get(trouble.head, 0) + 1
        oldest = step - self.options.recent_steps
        self._skipped_steps = [s for s in (*self._skipped_steps, step) if s > oldest]

    def _remember(self, losses: Mapping[str, float]) -> None:
        for head, loss in losses.items():
            self._recent.setdefault(head, self._window(())).append(loss)

    def _window(self, losses: Iterable[float]) -> deque[float]:
        return deque(losses, maxlen=self.options.window)


def _not_finite(
    what: Literal["loss", "gradient"], numbers: Mapping[str, float]
) -> tuple[Trouble, ...]:
    """Heads whose number is not finite; the backbone only where it is the only one.

    What is not finite in a head is not finite in the gradient of the backbone, too.
    """
    broken = [name for name, number in numbers.items() if not math.isfinite(number)]
    named = [name for name in broken if name != "backbone"] or broken
    return tuple(Trouble(head=name, what=what, value=numbers[name]) for name in named)
