"""The terminal of rank 0: messages, and a dashboard below them that follows the run."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from rich.console import Console
from rich.live import Live

from gfm_pretrain.monitor.dashboard import Dashboard
from gfm_pretrain.monitor.state import RunState

DRAWINGS_PER_SECOND = 2.0
"""One of 16 heads takes 4 ms of the main thread's time."""


class Terminal:
    """Where people read what a run says: stderr.

    It is never put into a state that someone would have to restore: the cursor stays visible, for
    a rank can be killed at any moment. And a terminal that has gone does not end the run.
    """

    def __init__(self, *, speaks: bool) -> None:
        self.console = _Console(file=cast(IO[str], _Stderr()), quiet=not speaks)
        self.is_drawn_on = speaks and sys.stderr.isatty() and self.console.is_interactive
        """Whether there is a terminal that can redraw lines."""

    def say(self, message: str) -> None:
        """A message, above what is drawn."""
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def following(self, state: RunState) -> Iterator[None]:
        """Draw the state, as it changes, meanwhile."""
        if not self.is_drawn_on:
            yield
            return
        live = Live(
            Dashboard(state, fit_height=True),
            console=self.console,
            refresh_per_second=DRAWINGS_PER_SECOND,
        )
        with live:
            yield


class _Console(Console):
    def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002 (it is always shown)
        """Leave the cursor alone."""
        return False


class _Stderr(io.TextIOBase):
    """The stderr there was at first; errors of writing to it are not passed on."""

    def __init__(self) -> None:
        self._stream = sys.stderr

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._stream.encoding

    def write(self, text: Any) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):  # ValueError: it is closed
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()
