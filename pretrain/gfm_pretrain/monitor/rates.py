"""How fast a run is and what its time goes into, over the last steps."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gfm_pretrain.agreement import ACTIVITIES
from gfm_pretrain.data.feed import Size
from gfm_pretrain.step_result import StepResult

WINDOW_SECONDS = 60.0
"""Of training that rates are taken over …"""
FEWEST_STEPS, MOST_STEPS = 10, 1000
"""… and the bounds on the number of steps in it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rates:
    """Rates over a window of steps, per second of training; pauses are told apart."""

    steps: int
    """In the window."""
    seconds: float
    """Of training in the window: the steps alone."""
    paused: float
    """Part of the time that was not training: validation, snapshots, writing of records."""
    heads: Mapping[str, Mapping[str, float]]
    """Structures, atoms and edges per second, by head."""
    time: Mapping[str, float]
    """Part of the training time by activity, mean over ranks; they sum to 1 with `other`."""
    own_time: Mapping[str, float]
    """The same of this rank alone."""
    balance: float
    """Mean over steps."""
    bytes_per_step: float
    """Sent for gradients, mean over ranks and steps."""

    @property
    def seconds_per_step(self) -> float:
        """Of training."""
        return self.seconds / self.steps


@dataclass(frozen=True, kw_only=True, eq=False)
class _Moment:
    """A step and when it ended."""

    result: StepResult
    own_activities: Mapping[str, float]
    clock: float
    wall: float


class RateWindow:
    """The last steps of a run on one rank.

    Two clocks go with every step: seconds of training, the same on every rank, which stand still
    in pauses; and seconds of a clock on the wall, which do not.
    """

    def __init__(self, *, clock: float, wall: float) -> None:
        self._start = clock, wall
        self._moments: deque[_Moment] = deque()

    def add(
        self, result: StepResult, *, own_activities: Mapping[str, float], clock: float, wall: float
    ) -> None:
        """Take a step in, and let go of those that are too old.

        Args:
            result: Of the step.
            own_activities: Seconds of this rank by activity.
            clock: Seconds of training at its end.
            wall: Seconds on the wall at its end.
        """
        moments = self._moments
        moments.append(
            _Moment(result=result, own_activities=own_activities, clock=clock, wall=wall)
        )
        while len(moments) > MOST_STEPS or (
            len(moments) > FEWEST_STEPS and clock - moments[0].clock > WINDOW_SECONDS
        ):
            oldest = moments.popleft()
            self._start = oldest.clock, oldest.wall

    def rates(self) -> Rates:
        """Rates over the steps of the window, of which there must be one."""
        moments, (clock, wall) = self._moments, self._start
        seconds = max(moments[-1].clock - clock, 1e-9)
        wall_seconds = max(moments[-1].wall - wall, seconds)
        results = [moment.result for moment in moments]
        return Rates(
            steps=len(moments),
            seconds=seconds,
            paused=1 - seconds / wall_seconds,
            heads={head: _per_second(results, head, seconds) for head in results[-1].sizes},
            time=_split((result.seconds for result in results), seconds),
            own_time=_split((moment.own_activities for moment in moments), seconds),
            balance=sum(result.balance for result in results) / len(results),
            bytes_per_step=sum(result.bytes_sent for result in results) / len(results),
        )


def _per_second(results: Iterable[StepResult], head: str, seconds: float) -> dict[str, float]:
    sizes = [result.sizes.get(head, _NOTHING) for result in results]
    return {
        "structures": sum(size.structures for size in sizes) / seconds,
        "atoms": sum(size.atoms for size in sizes) / seconds,
        "edges": sum(size.edges for size in sizes) / seconds,
    }


def _split(spent: Iterable[Mapping[str, float]], seconds: float) -> dict[str, float]:
    """Parts of `seconds` by activity, and what is left as `other`."""
    steps = list(spent)
    parts = {name: sum(step.get(name, 0.0) for step in steps) / seconds for name in ACTIVITIES}
    whole = max(1.0, sum(parts.values()))  # clocks of ranks differ a little
    parts = {name: part / whole for name, part in parts.items()}
    return {**parts, "other": max(0.0, 1.0 - sum(parts.values()))}


_NOTHING = Size(structures=0, atoms=0, edges=0)
