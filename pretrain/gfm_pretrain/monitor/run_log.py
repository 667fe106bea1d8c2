"""The log of a run, for people: `log.txt` in its folder."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOG_FILE = "log.txt"

log = logging.getLogger("gfm_pretrain")


@contextmanager
def logging_to(run: Path, *, speaks: bool) -> Iterator[None]:
    """Write the log of rank 0 into the run's folder meanwhile."""
    handler = _LogFile(run / LOG_FILE, encoding="utf-8") if speaks else logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


class _LogFile(logging.FileHandler):
    """A file that says once that it cannot be written, in one line, and lets the run go on."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.failed:
            self.failed = True
            sys.stderr.write(f"cannot write {self.baseFilename}: {error.strerror}\n")

    def close(self) -> None:
        try:
            super().close()
        except OSError:
            self.failed = True
