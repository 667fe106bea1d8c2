"""Batches made ahead, by a thread, while the ones before go through the network."""

import itertools
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import torch

from gfm_pretrain.data.feed import Batch, Feed, StepWork
from gfm_pretrain.device import ACCELERATORS

PATIENCE = 10.0
"""Seconds that the end of a thread is waited for; one that hangs in a file is left behind."""
AHEAD = 2
"""Passes made ahead for an accelerator: one to go on with, and one in the making."""


def passes_ahead(asked: int | Literal["auto"], device: torch.device) -> int:
    """How many batches are to be made ahead."""
    if asked != "auto":
        return asked
    return AHEAD if device.type in ACCELERATORS else 0


class Prefetch:
    """A feed that works ahead, also beyond the end of a step, and gives exactly the same.

    Asked for another step than the next, it begins anew there. An error in the thread is raised
    where the batch it hit is asked for. Leaving the context ends the thread.

    Args:
        feed: What is made ahead.
        ahead: Most passes that are ready or in the making, at least one.
    """

    def __init__(self, feed: Feed, *, ahead: int) -> None:
        self.feed = feed
        self.ahead = ahead
        self._stream: _Stream | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the thread, if there is one."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def work(self, step: int) -> StepWork:
        """What is to be done in a step."""
        if self._stream is not None and self._stream.first().begins(step):
            return self._stream.first().work
        self.close()
        self._stream = _Stream(self.feed, step, self.ahead)
        return self._stream.first().work

    def batches(self, work: StepWork) -> Iterator[Batch]:
        """The batches of this rank's passes, in their order."""
        stream = self._stream
        if stream is None or stream.first().work is not work:
            yield from self.feed.batches(work)
            return
        for _ in range(max(1, len(work.passes))):
            batch = stream.take().batch
            if batch is not None:
                yield batch


@dataclass(frozen=True, kw_only=True, eq=False)
class _Item:
    """One pass, or the empty step of a rank that has none."""

    work: StepWork
    number: int
    batch: Batch | None

    def begins(self, step: int) -> bool:
        """Whether this is the first pass of a step."""
        return self.work.step == step and self.number == 0


class _ClosedError(Exception):
    """The stream is no longer wanted."""


class _Stream:
    """Passes from some step on, made by a thread of its own."""

    def __init__(self, feed: Feed, step: int, ahead: int) -> None:
        self._feed = feed
        self._step = step
        self._ahead = ahead
        self._items: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._error: BaseException | None = None
        # Not waited for at the end of the process: a thread that hangs must not hang the rank.
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def first(self) -> _Item:
        """The next pass, which stays; waits until it is there."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._error)
            if not self._items:
                assert self._error is not None
                raise self._error
            return self._items[0]

    def take(self) -> _Item:
        """The next pass, which goes; waits until it is there."""
        item = self.first()
        with self._changed:
            self._items.popleft()
            self._changed.notify_all()
        return item

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        try:
            self._use_device(self._feed.device)
            for step in itertools.count(self._step):
                self._make(step)
        except _ClosedError:
            pass
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _make(self, step: int) -> None:
        self._wait_for_room()
        work = self._feed.work(step)
        if not work.passes:
            self._put(_Item(work=work, number=0, batch=None))
        batches = self._feed.batches(work)
        for number in range(len(work.passes)):
            self._wait_for_room()
            self._put(_Item(work=work, number=number, batch=next(batches)))

    def _wait_for_room(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._ahead)
            if self._closed:
                raise _ClosedError

    def _put(self, item: _Item) -> None:
        with self._changed:
            if not self._closed:
                self._items.append(item)
                self._changed.notify_all()

    @staticmethod
    def _use_device(device: torch.device) -> None:
        """Threads begin with the first accelerator, which is another rank's."""
        if device.type in ACCELERATORS:
            ACCELERATORS[device.type].set_device(device)
