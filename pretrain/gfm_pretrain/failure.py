"""The end of a run: if one rank fails, all ranks end, and the reason is said once."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage] (public in the docs)

from gfm_pretrain.beats import NO_ANSWER, Board, within
from gfm_pretrain.launcher import (
    LaunchError,
    announced_rank,
    detect_launcher,
    idle_allocation,
)
from gfm_pretrain.lost_contact import find_lost, first_sentence, is_lost_contact
from gfm_pretrain.meeting import Meeting, leave, meet, reaches
from gfm_pretrain.mpi import running_mpi
from gfm_pretrain.preemption import let_signals_end_us
from gfm_pretrain.process import World, join
from gfm_pretrain.verdict import RankError
from gfm_pretrain.watchdog import watching

USER_ERRORS = (ValueError, OSError)
"""What the user can put right: one line, no traceback. `FileNotFoundError` is an `OSError`."""


class UsageError(ValueError):
    """A wrong command line, the same on every rank; its text is all that is said."""


# How long a rank that has nothing of its own to say waits for the launcher to end it, and how long
# a rank with a user error waits to see whether all the others have the same one.
_GRACE_SECONDS = 5.0
_HEARING_SECONDS = 30.0
"""How long rank 0 waits for the others to hear of an error of its own."""
_ABORT_SECONDS = 20.0
"""How long a busy MPI launcher may take to end ranks after one has aborted."""
_AGREE_SECONDS = 2.0
_POLL_SECONDS = 0.1

T = TypeVar("T")


def run_main(
    main: Callable[[World], object],
    *,
    program: str,
    device: str = "auto",
    timeout_seconds: float = 600.0,
    hang_seconds: float = 120.0,
) -> int:
    """Run `main` on every rank; if one rank fails, end all of them and say why once.

    The reason goes to stderr: one line for what a user can put right, the traceback before it for
    anything else. Errors in threads and a non-zero `SystemExit` count. Call on every rank.

    Args:
        main: The program. Read its configuration inside it: then an error in it is said once, too.
        program: Name at the start of the message.
        device: As for `open_world`.
        timeout_seconds: As for `open_world`.
        hang_seconds: How long a rank may keep others waiting without a sign of progress.

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
            with (
                join(meeting, device) as world,
                watching(world, reporter.board, reporter.end_all, hang_seconds=hang_seconds),
            ):
                _call(main, world)
        except BaseException as error:
            return reporter.end(error)
    return 0 if reporter.alone else _end_in_peace()


def _connect_again(store: Store) -> Store:
    """A connection of its own: a call that waits holds up all others on the same one."""
    again = store.clone()  # pyright: ignore[reportAttributeAccessIssue] (not in the stub)
    again.set_timeout(timedelta(seconds=_GRACE_SECONDS))
    return again


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
        self.board: Board | None = None

    def meet(self, meeting: Meeting) -> None:
        """Take a connection of our own: the main thread may wait in the first one."""
        self.rank, self.size, self.alone = meeting.rank, meeting.size, meeting.size == 1
        if meeting.store is not None:
            self.store = _connect_again(meeting.store)
            self.board = Board(_connect_again(meeting.store), meeting.size)

    def note(self, text: str | None) -> None:
        """Say what a process alone may not have meant."""
        if self.alone and text is not None:
            sys.stderr.write(f"{self.program}: note: {text}\n")

    def end(self, error: BaseException) -> int:
        """Print the reason; return the exit status if no rank waits for us, else end here."""
        lost = is_lost_contact(error)
        if lost:
            error = self._find_lost(error)
        everywhere = isinstance(error, USER_ERRORS) and self._is_everywhere(error)
        code = _exit_code(error, everywhere=everywhere)
        first = self._is_first(error)
        if first:
            sys.stderr.write(self._message(error, everywhere=everywhere))
            sys.stderr.flush()
        if self.alone or (everywhere and self._has_left(first)):
            return code
        self._linger(first, lost=lost, own=not lost and not isinstance(error, RankError))
        return _end_process(code)

    def _linger(self, first: bool, *, lost: bool, own: bool) -> None:
        """Whoever has said the reason ends all; but who serves the store lets others see it.

        After an error of its own, the others live, and see it however busy their machines are.
        """
        if not first and not lost:
            _wait_to_be_ended(_GRACE_SECONDS)
        elif self.rank == 0 and self.board is not None and running_mpi(sys.modules) is None:
            end = time.monotonic() + (_HEARING_SECONDS if own else _GRACE_SECONDS)
            while time.monotonic() < end and self.board.n_confirmed() < (self.size or 1) - 1:
                time.sleep(_POLL_SECONDS)

    def _find_lost(self, error: BaseException) -> BaseException:
        """Let the rank that knows the reason say it, and end us; else name who has gone."""
        if self.board is None or self.size is None:
            time.sleep(_GRACE_SECONDS)
            return error
        return find_lost(error, self.board, self.size)

    def end_all(self, error: BaseException) -> None:
        """Print the reason and end this process, from any thread."""
        if self.rank is not None and self.rank > 1:  # rank 1 says it, if it lives; a store that
            _wait_to_be_ended(_ABORT_SECONDS)  # awakes as all are ended would let us speak, too
        _end_process(self.end(error))

    def _is_everywhere(self, error: BaseException) -> bool:
        if self.alone or self.store is None or self.size is None:
            return self.alone or isinstance(error, LaunchError)
        counter = f"failure/{_reason(error)}"
        try:
            self._ask(lambda store: store.add(counter, 1))
            return self._reaches(counter, self.size, _AGREE_SECONDS)
        except NO_ANSWER:  # the store has gone with its rank
            return False

    def _ask(self, question: Callable[[Store], T], seconds: float = 0.0) -> T:
        """What the store answers in time, and some seconds if it has to wait."""
        store = self.store
        assert store is not None
        return within(seconds + _GRACE_SECONDS, lambda: question(store))

    def _reaches(self, counter: str, target: int, seconds: float) -> bool:
        return self._ask(lambda store: reaches(store, counter, target, seconds), seconds)

    def _is_first(self, error: BaseException) -> bool:
        if self.board is None:
            return self.rank == 0 or not isinstance(error, LaunchError)
        try:
            return self.board.take_the_word()
        except NO_ANSWER:  # rank 0 has gone with its store: the next rank speaks
            under_mpi = running_mpi(sys.modules) is not None
            if self.rank > 1:
                _wait_to_be_ended(_ABORT_SECONDS if under_mpi else _GRACE_SECONDS)
            return (self.rank == 1 or under_mpi) and not self.board.is_said

    def _has_left(self, first: bool) -> bool:
        """Once the reason is out, ranks that agree part in peace: the launcher then says less."""
        if self.store is None or self.size is None:
            return False
        try:
            self._ask(lambda store: store.add("said", int(first)))
            self._reaches("said", 1, _GRACE_SECONDS)
            rank, size = self.rank, self.size
            self._ask(lambda store: leave(store, rank, size, _GRACE_SECONDS), _GRACE_SECONDS)
        except NO_ANSWER:
            return False
        return True

    def _message(self, error: BaseException, *, everywhere: bool) -> str:
        if isinstance(error, UsageError):
            return str(error)
        if isinstance(error, RankError):
            return f"{self.program}: error: {error}\n"
        short = isinstance(error, (*USER_ERRORS, SystemExit, KeyboardInterrupt))
        stack = "" if short or is_lost_contact(error) else _stack(error)
        of_size = "" if self.size is None else f" of {self.size}"
        place = "" if everywhere or self.alone else f" on rank {self.rank}{of_size}"
        return f"{stack}{self.program}: error{place}: {_reason(error)}\n"


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    text = " ".join(str(error).split()) if isinstance(error, USER_ERRORS) else str(error)
    if is_lost_contact(error):
        return f"lost contact with another rank ({first_sentence(text)})"
    return f"{type(error).__name__}: {text}"


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


def _wait_to_be_ended(seconds: float) -> None:
    """Sleep; a launcher that ends this rank meanwhile does so at once."""
    let_signals_end_us()
    time.sleep(seconds)


def _end_process(code: int) -> int:
    """End now, without waiting for threads or peers; under MPI end every rank."""
    sys.stdout.flush()
    sys.stderr.flush()
    MPI = running_mpi(sys.modules)
    if MPI is not None and MPI.COMM_WORLD.size > 1:
        MPI.COMM_WORLD.Abort(code)
    os._exit(code)
