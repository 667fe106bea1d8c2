"""The end of a run: if one rank fails, all ranks end, and the reason is said once."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage] (public in the docs)

from gfm_pretrain.launcher import (
    LaunchError,
    announced_rank,
    detect_launcher,
    idle_allocation,
)
from gfm_pretrain.meeting import Meeting, leave, meet, reaches
from gfm_pretrain.mpi import running_mpi
from gfm_pretrain.process import World, join

USER_ERRORS = (ValueError, OSError)
"""What the user can put right: one line, no traceback. `FileNotFoundError` is an `OSError`."""


class UsageError(ValueError):
    """A wrong command line, the same on every rank; its text is all that is said."""


# How long a rank that has nothing of its own to say waits for the launcher to end it, and how long
# a rank with a user error waits to see whether all the others have the same one.
_GRACE_SECONDS = 5.0
_AGREE_SECONDS = 2.0

_LOST_CONTACT = re.compile(
    r"closed|closure|reset by peer|broken pipe|refused|timed? ?out|no data|failed to recv"
    r"|recvvalue failed|sendbytes failed|remote ?(process|error)|communicator was aborted",
    re.IGNORECASE,
)


def run_main(
    main: Callable[[World], object],
    *,
    program: str,
    device: str = "auto",
    timeout_seconds: float = 600.0,
) -> int:
    """Run `main` on every rank; if one rank fails, end all of them and say why once.

    The reason goes to stderr: one line for what a user can put right, the traceback before it for
    anything else. Errors in threads and a non-zero `SystemExit` count. Call on every rank.

    Args:
        main: The program. Read its configuration inside it: then an error in it is said once, too.
        program: Name at the start of the message.
        device: As for `open_world`.
        timeout_seconds: As for `open_world`.

    Returns:
        Exit status of the only rank: 0, 2 after an error of the user, or what else it failed with;
        and 2 if every one of several ranks has the same user error. Several ranks that are done, or
        one of which fails, end here instead.
    """
    reporter = _Reporter(program, os.environ)
    with _threads_reported(reporter):
        try:
            meeting = meet(timedelta(seconds=timeout_seconds))
            reporter.meet(meeting)
            reporter.note(idle_allocation(os.environ))
            with join(meeting, device) as world:
                _call(main, world)
        except BaseException as error:
            return reporter.end(error)
    return 0 if reporter.alone else _end_in_peace()


def _call(main: Callable[[World], object], world: World) -> None:
    try:
        main(world)
    except SystemExit as stop:
        if stop.code:
            raise


@contextmanager
def _threads_reported(reporter: _Reporter) -> Iterator[None]:
    """Let an error in a thread end the process: the main thread may wait in a collective."""

    def end_process(failure: threading.ExceptHookArgs) -> None:
        if failure.exc_value is not None and failure.exc_type is not SystemExit:
            _end_process(reporter.end(failure.exc_value))

    previous, threading.excepthook = threading.excepthook, end_process
    try:
        yield
    finally:
        threading.excepthook = previous


class _Reporter:
    """Says why the run ended: once, on whichever rank knows first."""

    def __init__(self, program: str, environ: Mapping[str, str]) -> None:
        self.program = program
        self.alone = detect_launcher(environ) == "single"
        self.rank = announced_rank(environ)
        self.size: int | None = None
        self.store: Store | None = None

    def meet(self, meeting: Meeting) -> None:
        """Take a connection of our own: the main thread may wait in the first one."""
        self.rank, self.size, self.alone = meeting.rank, meeting.size, meeting.size == 1
        if meeting.store is not None:
            store = meeting.store.clone()  # pyright: ignore[reportAttributeAccessIssue] (not in the stub)
            store.set_timeout(timedelta(seconds=_GRACE_SECONDS))
            self.store = store

    def note(self, text: str | None) -> None:
        """Say what a process alone may not have meant."""
        if self.alone and text is not None:
            sys.stderr.write(f"{self.program}: note: {text}\n")

    def end(self, error: BaseException) -> int:
        """Print the reason; return the exit status if no rank waits for us, else end here."""
        if _is_lost_contact(error):
            time.sleep(_GRACE_SECONDS)  # the rank that knows the reason says it, and we are ended
        everywhere = isinstance(error, USER_ERRORS) and self._is_everywhere(error)
        code = _exit_code(error, everywhere=everywhere)
        first = self._is_first(error)
        if first:
            sys.stderr.write(self._message(error, everywhere=everywhere))
            sys.stderr.flush()
        if self.alone or (everywhere and self._has_left(first)):
            return code
        if not first:
            time.sleep(_GRACE_SECONDS)
        return _end_process(code)

    def _is_everywhere(self, error: BaseException) -> bool:
        if self.alone or self.store is None or self.size is None:
            return self.alone or isinstance(error, LaunchError)
        counter = f"failure/{_reason(error)}"
        try:
            self.store.add(counter, 1)
            return reaches(self.store, counter, self.size, _AGREE_SECONDS)
        except RuntimeError:  # the store has gone with its rank
            return False

    def _is_first(self, error: BaseException) -> bool:
        if self.store is None:
            return self.rank == 0 or not isinstance(error, LaunchError)
        try:
            return self.store.add("failures", 1) == 1
        except RuntimeError:
            time.sleep(_GRACE_SECONDS)
            return True

    def _has_left(self, first: bool) -> bool:
        """Once the reason is out, ranks that agree part in peace: the launcher then says less."""
        if self.store is None or self.size is None:
            return False
        try:
            self.store.add("said", int(first))
            reaches(self.store, "said", 1, _GRACE_SECONDS)
            leave(self.store, self.rank, self.size, _GRACE_SECONDS)
        except RuntimeError:
            return False
        return True

    def _message(self, error: BaseException, *, everywhere: bool) -> str:
        if isinstance(error, UsageError):
            return str(error)
        short = isinstance(error, (*USER_ERRORS, SystemExit, KeyboardInterrupt))
        stack = "" if short or _is_lost_contact(error) else _stack(error)
        of_size = "" if self.size is None else f" of {self.size}"
        place = "" if everywhere or self.alone else f" on rank {self.rank}{of_size}"
        return f"{stack}{self.program}: error{place}: {_reason(error)}\n"


def _is_lost_contact(error: BaseException) -> bool:
    """Whether the error only says that another rank has gone, so that it is not the reason."""
    text = str(error)
    of_distributed = isinstance(error, dist.DistError) or "gloo" in text
    is_ours = "enforce fail" in text.lower()  # gloo's word for tensors that do not match
    connection = isinstance(error, RuntimeError) and of_distributed and not is_ours
    return connection and _LOST_CONTACT.search(text) is not None


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    text = " ".join(str(error).split()) if isinstance(error, USER_ERRORS) else str(error)
    if _is_lost_contact(error):
        return f"lost contact with another rank ({_first_sentence(text)})"
    return f"{type(error).__name__}: {text}"


def _first_sentence(text: str) -> str:
    without_source_line = re.sub(r"^\[[^]]*]\s*", "", text)
    return without_source_line.splitlines()[0].split(". ")[0]


def _stack(error: BaseException) -> str:
    """The traceback without its last line, which the message repeats."""
    return "".join(traceback.format_exception(error)[:-1])


def _exit_code(error: BaseException, *, everywhere: bool) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130  # the shell's number for SIGINT
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    return 2 if everywhere else 1


def _end_in_peace() -> int:
    """End now that all is done, without tearing down Python.

    A thread of gloo may still hold the tensors of the last collective; dropping them while Python
    ends takes the process down: "terminate called without an active exception", once in some
    hundred runs. Source: https://github.com/pytorch/pytorch/issues/190489.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    MPI = running_mpi(sys.modules)
    if MPI is not None:
        MPI.Finalize()
    os._exit(0)


def _end_process(code: int) -> int:
    """End now, without waiting for threads or peers; under MPI end every rank."""
    sys.stdout.flush()
    sys.stderr.flush()
    MPI = running_mpi(sys.modules)
    if MPI is not None and MPI.COMM_WORLD.size > 1:
        MPI.COMM_WORLD.Abort(code)
    os._exit(code)
