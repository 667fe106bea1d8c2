"""Where a run stands, put together from its records as they come or from its file."""

from collections import deque
from collections.abc import Mapping
from typing import Any

LOSS_STEPS = 50
"""Steps of a head that the loss shown is the mean of."""
JUDGED = ("valid", "test")
ENDS = ("finished", "stopped", "failed")
"""Events after which a process does no more."""


class RunState:
    """What is known of a run so far."""

    def __init__(self) -> None:
        self.run: Mapping[str, Any] = {}
        """The last `run` record; empty before the first."""
        self.train: Mapping[str, Any] = {}
        """The last `train` record."""
        self.rates: Mapping[str, Any] = {}
        """The last `rates` record."""
        self.errors: dict[str, Mapping[str, float]] = {}
        """Of each head, from its last evaluation."""
        self.judged: tuple[str, int] | None = None
        """Kind and step of the last evaluation."""
        self.starts: list[int] = []
        """Steps that the run began or was continued at."""
        self.ended: Mapping[str, Any] | None = None
        """The event that the run ended with; None while nothing says that it did."""
        self.step = 0
        """Of the last record."""
        self.n_skipped = 0
        """Steps that did not change the weights."""
        self._losses: dict[str, deque[float]] = {}
        self._weighted: deque[float] = deque(maxlen=LOSS_STEPS)

    def add(self, record: Mapping[str, Any]) -> None:
        """Take a record in; kinds that are not known are passed over."""
        kind = record["kind"]
        self.step = record["step"]
        if kind == "run":
            self.run, self.ended = record, None
            self.starts.append(record["step"])
        elif kind == "train":
            self._add_step(record)
        elif kind == "rates":
            self.rates = record
        elif kind == "event":
            self.ended = record if record["event"] in ENDS else self.ended
        elif kind == "before":
            self.judged = self.judged or (kind, record["step"])
            self.errors = record["heads"] | self.errors  # heads may join a run that goes on
        elif kind in JUDGED:
            self.judged = (kind, record["step"])
            self.errors |= record["heads"]

    @property
    def heads(self) -> list[str]:
        """Names of the heads, in the order of the run."""
        return list(self.run.get("heads", {}))

    @property
    def total_steps(self) -> int | None:
        """Of the whole run; None where no run has begun."""
        return self.run.get("total_steps")

    @property
    def loss(self) -> float | None:
        """Weighted loss, mean over the last steps."""
        return _mean(self._weighted)

    def loss_of(self, head: str) -> float | None:
        """Mean over the last steps that had structures of the head."""
        return _mean(self._losses.get(head, ()))

    def _add_step(self, record: Mapping[str, Any]) -> None:
        self.train = record
        if record.get("skipped"):
            self.n_skipped += 1
            return
        for head, loss in record["losses"].items():
            self._losses.setdefault(head, deque(maxlen=LOSS_STEPS)).append(loss)
        self._weighted.append(record["loss"])


def _mean(values: deque[float] | tuple[()]) -> float | None:
    return sum(values) / len(values) if values else None
