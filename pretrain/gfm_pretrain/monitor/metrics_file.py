"""The metrics of a run: one JSON object per line, appended, across interruptions.

A line is written at once, so that it survives the process. No two lines contradict each other: when
a run goes on from a snapshot, the lines of steps after it are moved into a file of their own.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

METRICS_FILE = "metrics.jsonl"
UNDONE_FILE = "metrics-undone.jsonl"
"""Lines of steps that a resumed run did again."""
UNIQUE = ("before", "valid", "test")
"""Kinds of which there is one line per step; a run that only ends again finds them anew."""
MOST_PENDING = 10_000
"""Lines that are kept in memory while the disk is full; more are lost."""

Record = Mapping[str, Any]


class MetricsFile:
    """Writes `metrics.jsonl` in the folder of a run.

    Where a line cannot be written, `complain` is told once, the run goes on, and the lines wait in
    memory until the file takes them again.
    """

    def __init__(self, run: Path, *, complain: Callable[[str], None]) -> None:
        self.path = run / METRICS_FILE
        self._complain = complain
        self._known: set[tuple[str, int]] = set()
        self._pending: list[bytes] = []
        self._n_lost = 0
        self._failing = False
        self._file: BinaryIO | None = None

    def rewind(self, step: int, *, visit: Callable[[Record], None]) -> None:
        """Move out lines after `step`, or damaged ones; `visit` sees those that stay."""
        if not self.path.exists():
            return
        size = 0
        with self.path.open("rb") as file:
            for line in file:
                record = parse_line(line)
                if record is None or record["step"] > step:
                    break
                size += len(line)
                self._note(record)
                visit(record)
        if size < self.path.stat().st_size:
            _move_tail(self.path, size, self.path.with_name(UNDONE_FILE))

    def append(self, record: Record) -> None:
        """Write one line, unless it is one of those that the file has already."""
        if (record["kind"], record["step"]) in self._known:
            return
        self._note(record)
        if len(self._pending) == MOST_PENDING:
            self._n_lost += 1
        else:
            self._pending.append(as_line(record))
        try:
            self._write(b"".join(self._pending))
        except OSError as error:
            self._fail(error, record["step"])
        else:
            self._pending.clear()
            self._recover()

    def close(self) -> None:
        """Close the file; lines that it did not take are lost, which was said."""
        if self._file is not None:
            self._file.close()

    def _note(self, record: Record) -> None:
        if record["kind"] in UNIQUE:
            self._known.add((record["kind"], record["step"]))

    def _write(self, data: bytes) -> None:
        """All of it or nothing."""
        if self._file is None:
            self._file = self.path.open("ab", buffering=0)
        start = os.fstat(self._file.fileno()).st_size
        try:
            while data:
                data = data[self._file.write(data) or 0 :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file.fileno(), start)
            raise

    def _fail(self, error: OSError, step: int) -> None:
        if not self._failing:
            self._failing = True
            self._complain(
                f"cannot write {self.path}: {error.strerror}; training goes on, and its metrics "
                f"from step {step} are kept in memory until they can be written"
            )

    def _recover(self) -> None:
        if self._failing:
            self._failing = False
            lost = f"; {self._n_lost} lines were lost" if self._n_lost else ""
            self._complain(f"{self.path} is written again{lost}")


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file that may be growing; one that is not whole yet is left out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line is not what this package writes; the message names it.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            record = parse_line(line)
            if record is not None:
                yield record
            elif line.endswith(b"\n"):
                raise ValueError(f"{path}, line {number}: not a line of metrics")


def parse_line(line: bytes) -> dict[str, Any] | None:
    """A record; None where the line is cut or is not one."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    known = isinstance(record, dict) and isinstance(record.get("step"), int)
    return record if known and isinstance(record.get("kind"), str) else None


def as_line(record: Record) -> bytes:
    """JSON in UTF-8 with a line break; numbers that are not finite, which JSON lacks, are null."""
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_without_nan(record), ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _move_tail(path: Path, size: int, target: Path) -> None:
    """Append what lies after `size` bytes to `target`, and cut it off."""
    with path.open("rb") as source, target.open("ab") as undone:
        source.seek(size)
        tail = source.read()
        undone.write(tail if tail.endswith(b"\n") else tail + b"\n")
        undone.flush()
        os.fsync(undone.fileno())
    os.truncate(path, size)
