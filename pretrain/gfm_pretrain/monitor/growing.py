"""A file of metrics that another process may be writing."""

from pathlib import Path

from gfm_pretrain.monitor.metrics_file import METRICS_FILE, UNDONE_FILE, parse_line
from gfm_pretrain.monitor.state import RunState


class GrowingMetrics:
    """Where a run stands by its file, read on from where it was read to.

    Args:
        run: Folder of the run.

    Raises:
        FileNotFoundError: it holds no metrics.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / METRICS_FILE
        if not self.path.is_file():
            raise FileNotFoundError(
                f"{run} has no {METRICS_FILE}: it is not a run, or nothing was computed yet"
            )
        self._begin()

    def read(self) -> RunState:
        """The state with what was added since.

        Raises:
            ValueError: a line is not what this package writes; the message names it.
        """
        if self.path.stat().st_size < self._size or self._undone() != self._n_undone:
            self._begin()  # it was continued from a snapshot, and lines were moved out
        with self.path.open("rb") as file:
            file.seek(self._size)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # it is being written
                self._add(line)
        return self.state

    def _begin(self) -> None:
        self.state = RunState()
        self._size = self._line = 0
        self._n_undone = self._undone()

    def _add(self, line: bytes) -> None:
        self._size += len(line)
        self._line += 1
        record = parse_line(line)
        if record is None:
            raise ValueError(f"{self.path}, line {self._line}: not a line of metrics")
        self.state.add(record)

    def _undone(self) -> int:
        undone = self.path.with_name(UNDONE_FILE)
        return undone.stat().st_size if undone.exists() else 0
