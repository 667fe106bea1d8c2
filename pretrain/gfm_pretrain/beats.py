"""What the ranks of a run tell one another of themselves, through the store where they met."""

import json
import os
import queue
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage] (public in the docs)

T = TypeVar("T")

NO_ANSWER = (RuntimeError, OSError)
"""Of a store that has gone, or does not answer in time."""
_ANSWER_SECONDS = 5.0
_NOTICE = "notice"
_SAID = "failures"
_CONFIRMED = "failures/heard"


@dataclass(frozen=True, kw_only=True)
class Beat:
    """What a rank says of itself, about once a second."""

    number: int
    """Of the beat; what says the same number again is an old one."""
    host: str
    pid: int
    step: int | None
    """Steps done; None in set-up and in the first step."""
    hurried: bool
    """Whether signs of progress are to be expected: not in set-up, nor while files are written."""
    activity: str
    """What its main thread does."""
    waits: bool
    """Whether it waits for other ranks."""
    progress: int
    """Signs of progress so far."""
    longest: float
    """Seconds between two of them, the most so far."""
    stop: str | None
    """The signal that asked this rank to stop."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """What rank 0 tells all."""

    number: int = 0
    """Of the notice, as for beats."""
    stop: str | None = None
    """The signal that asked some rank to stop."""
    hung: tuple[int, ...] = ()
    """Ranks that should show where they are."""


class Board:
    """Where beats and the notice are put up. Every call ends within seconds.

    Args:
        store: A connection of its own.
        size: Number of ranks.
    """

    def __init__(self, store: Store, size: int) -> None:
        self._store = store
        self._keys = [f"beat/{rank}" for rank in range(size)]
        self._gone: RuntimeError | None = None
        self.known: dict[int, Beat] = {}
        """The last beats that were read, for when there is no answer any more."""
        self.is_said = False
        """Whether it is known that some rank says why the run ends."""

    def put(self, rank: int, beat: Beat) -> None:
        """Put up the beat of a rank."""
        text = json.dumps(asdict(beat))
        self._ask(lambda: self._store.set(self._keys[rank], text))

    def beats(self) -> dict[int, Beat]:
        """The last beat of every rank that has put up one."""
        return self.beats_of(range(len(self._keys)))

    def beats_of(self, ranks: Sequence[int]) -> dict[int, Beat]:
        """The last beats of some ranks."""
        return self._ask(lambda: self._read_beats(ranks))

    def first_beat_of(self, rank: int) -> Beat:
        """The beat of a rank, once there is one."""
        self._ask(lambda: self._store.wait([self._keys[rank]]))
        return self.beats_of([rank])[rank]

    def put_notice(self, notice: Notice) -> None:
        """Put up the notice."""
        text = json.dumps(asdict(notice))
        self._ask(lambda: self._store.set(_NOTICE, text))

    def notice(self) -> Notice:
        """The last notice."""
        found = self._ask(self._read_notice)
        return Notice(**{**found, "hung": tuple(found.get("hung", ()))})

    def listen_for_end(self) -> None:
        """Look whether the reason why the run ends has been said, and confirm that."""
        if not self.is_said and self._ask(lambda: self._store.check([_SAID])):
            self.is_said = True
            self._ask(lambda: self._store.add(_CONFIRMED, 1))

    def take_the_word(self) -> bool:
        """Whether this rank is the first that wants to say why the run ends."""
        is_first = self._ask(lambda: self._store.add(_SAID, 1)) == 1
        self.is_said = self.is_said or is_first
        return is_first

    def n_confirmed(self) -> int:
        """How many ranks have heard that the reason is said."""
        return self._ask(lambda: self._store.add(_CONFIRMED, 0))

    def tell_shown(self, rank: int) -> None:
        """Say that a rank has shown where it is."""
        self._ask(lambda: self._store.set(f"shown/{rank}", ""))

    def have_shown(self, ranks: Iterable[int]) -> bool:
        """Whether these ranks have."""
        keys = [f"shown/{rank}" for rank in ranks]
        return self._ask(lambda: not keys or self._store.check(keys))

    def _ask(self, question: Callable[[], T]) -> T:
        """What the store answers; once it has gone it is not asked again.

        torch writes a warning of many lines for each call on a connection that is broken.
        """
        if self._gone is not None:
            raise self._gone
        try:
            return within(_ANSWER_SECONDS, question)
        except RuntimeError as error:
            self._gone = error
            raise

    def _read_beats(self, ranks: Sequence[int]) -> dict[int, Beat]:
        if not self._store.check([self._keys[rank] for rank in ranks]):  # some are not here yet
            ranks = [rank for rank in ranks if self._store.check([self._keys[rank]])]
        texts = self._store.multi_get([self._keys[rank] for rank in ranks])  # pyright: ignore[reportAttributeAccessIssue] (not in the stub)
        found = {rank: Beat(**json.loads(text)) for rank, text in zip(ranks, texts, strict=True)}
        self.known = {**self.known, **found}
        return found

    def _read_notice(self) -> dict[str, Any]:
        return json.loads(self._store.get(_NOTICE)) if self._store.check([_NOTICE]) else {}


def own_place() -> dict[str, Any]:
    """Host and process of this rank."""
    return {"host": socket.gethostname(), "pid": os.getpid()}


def within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` returns; if it takes too long it is left behind in a thread of its own.

    A store whose process is stopped keeps its connections and never answers; no time limit of
    torch's covers that.

    Raises:
        TimeoutError: it took longer than `seconds`.
    """
    answer: queue.SimpleQueue[Callable[[], T]] = queue.SimpleQueue()

    def run() -> None:
        try:
            value = call()
        except Exception as error:
            answer.put(lambda error=error: _raise(error))
        else:
            answer.put(lambda: value)

    threading.Thread(target=run, daemon=True, name="store").start()
    try:
        return answer.get(timeout=seconds)()
    except queue.Empty:
        raise TimeoutError(f"the store did not answer within {seconds:g} s") from None


def _raise(error: Exception) -> Any:
    raise error
