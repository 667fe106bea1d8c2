"""Others that records go to."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol


class Sink(Protocol):
    """Takes the records of a run somewhere, on rank 0."""

    def write(self, record: Mapping[str, Any]) -> None:
        """Take a record."""
        ...

    def close(self, *, failed: bool) -> None:
        """There are no more."""
        ...


class Guarded:
    """A sink whose failure is said in one line and ends the sink, not the run."""

    def __init__(self, sink: Sink, name: str, *, complain: Callable[[str], None]) -> None:
        self._sink: Sink | None = sink
        self._name = name
        self._complain = complain

    def write(self, record: Mapping[str, Any]) -> None:
        """Pass a record on."""
        self._try(lambda sink: sink.write(record))

    def close(self, *, failed: bool) -> None:
        """Pass it on."""
        self._try(lambda sink: sink.close(failed=failed))

    def _try(self, action: Callable[[Sink], None]) -> None:
        if self._sink is None:
            return
        try:
            action(self._sink)
        # Someone else's package and service: whatever it raises is no reason to lose the run.
        except Exception as error:
            self._sink = None
            reason = " ".join(str(error).split()) or type(error).__name__
            self._complain(f"{self._name} gets no more of this run: {reason}")
