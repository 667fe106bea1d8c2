"""A request to stop from outside: a signal sets a flag, and all ranks save at the same step."""

import ctypes
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""Job systems send SIGTERM, or SIGUSR1 some time before; SIGINT is Ctrl-C. Open MPI's mpiexec
hands on SIGUSR1 alone; srun, MPICH and torchrun hand on SIGTERM."""


class Stopped(SystemExit):
    """The run was asked to stop and did so, with exit status 0; the same command continues it."""

    def __init__(self) -> None:
        super().__init__(0)


class LeftEarlyError(Exception):
    """Work was left since some rank was asked to stop; raised on every rank."""


class StopRequest:
    """Whether this rank was asked to stop."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def __bool__(self) -> bool:
        return self.reason is not None

    def note(self, number: int, _: FrameType | None) -> None:
        """Remember a signal; do nothing else, for it may come anywhere.

        Raises:
            KeyboardInterrupt: Ctrl-C for the second time.
        """
        if number == signal.SIGINT and self.reason == signal.SIGINT.name:
            raise KeyboardInterrupt
        self.reason = signal.Signals(number).name


@contextmanager
def noting_signals(request: StopRequest) -> Iterator[None]:
    """Let signals set the flag meanwhile; in a thread, which gets no signals, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, request.note) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def let_signals_end_us() -> None:
    """Let signals end this process from now on, on whichever thread this is.

    Python would only set handlers, and only call them, on the main thread, which may wait in C.
    """
    c_library = ctypes.CDLL(None)
    c_library.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    for number in SIGNALS:
        c_library.signal(number, signal.SIG_DFL)


def this_command() -> str:
    """What the user typed after the launcher."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
