"""A thread on every rank that tells what its rank does; that of rank 0 looks who holds up the run.

Once a second a rank puts up a beat and reads the notice of rank 0, two small messages; rank 0 reads
all beats in one. With thousands of ranks it is once in several seconds. The thread also hands on
the request to stop, so that a rank that gets no signal knows of it.
"""

import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from gfm_pretrain.beats import NO_ANSWER, Beat, Board, Notice, own_place
from gfm_pretrain.process import World
from gfm_pretrain.verdict import (
    MOST_NAMED,
    RankError,
    Sighting,
    explain,
    hung_ranks,
    listen,
    patience,
)

_END_SECONDS = 15.0
"""How long a rank has to end by itself once the reason why the run ends has been said."""
_STUCK_SECONDS = 7.0
"""Least time that this thread may be kept from running; waiting for the store takes five."""
_SHOW_SECONDS = 5.0
"""How long rank 0 waits until a rank that hangs has shown where."""


def beat_seconds(size: int) -> float:
    """Between two beats: one, or so many that rank 0 gets no more than two thousand a second."""
    return max(1.0, size / 2000)


@contextmanager
def watching(
    world: World, board: Board | None, end: Callable[[RankError], object], *, hang_seconds: float
) -> Iterator[None]:
    """Watch the other ranks meanwhile; after an error this goes on, for they look for us.

    Args:
        world: All ranks.
        board: Where beats are put up; None for a rank alone.
        end: Says why the run ends, and ends it.
        hang_seconds: See `FaultOptions`.
    """
    if board is None:
        yield
        return
    dog = Watchdog(world, board, end, hang_seconds=hang_seconds)
    thread = threading.Thread(target=dog.watch, daemon=True, name="watchdog")
    dog.begin()
    thread.start()
    yield
    dog.over.set()
    thread.join()


class Watchdog:
    """What the thread does; see the module.

    Args:
        world: All ranks.
        board: Where beats are put up.
        end: Says why the run ends, and ends it.
        hang_seconds: See `FaultOptions`.
    """

    def __init__(
        self,
        world: World,
        board: Board,
        end: Callable[[RankError], object],
        *,
        hang_seconds: float,
    ) -> None:
        self.world = world
        self.board = board
        self.end = end
        self.hang_seconds = hang_seconds
        self.over = threading.Event()
        self._number = 0
        self._place = own_place()
        self._shown = False
        self._sightings: dict[int, Sighting] = {}

    def begin(self) -> None:
        """Beat once, and get to know rank 0, which may be the first to be lost."""
        with suppress(*NO_ANSWER):
            self.beat()
            self._hear({0: self.board.first_beat_of(0)})

    def watch(self) -> None:
        """Beat and look until `over` is set."""
        seconds = beat_seconds(self.world.size)
        while not self.over.wait(seconds):
            try:
                self.beat()
                self._read()
            except NO_ANSWER:
                pass  # whoever serves the store is not heard of, and that is looked at here:
            self._look()
            if self.board.is_said:
                self._end_if_stuck()
        faulthandler.cancel_dump_traceback_later()

    def beat(self) -> None:
        """Say what this rank does."""
        self._number += 1
        activity, pulse = self.world.pulse.activity, self.world.pulse
        beat = Beat(
            number=self._number,
            **self._place,
            step=pulse.step,
            hurried=pulse.hurried,
            activity=activity.name,
            waits=activity.waits,
            progress=activity.number,
            longest=pulse.longest,
            stop=self.world.stop.reason,
        )
        self._hear({self.world.rank: beat})
        self._show_if_stuck(beat)
        self.board.put(self.world.rank, beat)

    def _read(self) -> None:
        """Rank 0 hears all and puts up a notice, the others hear rank 0."""
        if self.world.rank == 0:
            self._hear(self.board.beats())
            stops = (s.beat.stop for s in self._sightings.values())
            stop = next((reason for reason in stops if reason is not None), None)
            self.board.put_notice(Notice(number=self._number, stop=stop))
            self._obey(Notice(stop=stop))
        else:
            self._hear(self.board.beats_of([0]))
            self._obey(self.board.notice())
        self.board.listen_for_end()

    def _obey(self, notice: Notice) -> None:
        if notice.stop is not None and not self.world.stop:
            self.world.stop.reason = notice.stop
        if self.world.rank in notice.hung and not self._shown:
            self._shown = True
            self._show()

    def _look(self) -> None:
        """End the run if it is held up: by some rank, or by rank 0 so that it cannot say so."""
        now = time.monotonic()
        if self.board.is_said:
            return
        hung = hung_ranks(self._sightings, now=now, hang_seconds=self.hang_seconds)
        if self.world.rank > 0:
            hung = hung if hung == (0,) and self._is_silent(0, now) else ()
        if hung:
            reason = explain(hung, self._sightings, now=now, size=self.world.size)
            faulthandler.cancel_dump_traceback_later()
            self._let_show(hung[:MOST_NAMED])
            self.end(RankError(reason))

    def _is_silent(self, rank: int, now: float) -> bool:
        limit = patience(self._sightings, self.hang_seconds)
        return now - self._sightings[rank].heard > limit

    def _hear(self, beats: dict[int, Beat]) -> None:
        self._sightings = listen(self._sightings, beats, time.monotonic())

    def _let_show(self, hung: tuple[int, ...]) -> None:
        """Let ranks that hang and can still answer write where they are."""
        now = time.monotonic()
        answering = [rank for rank in hung if not self._is_silent(rank, now)]
        if not answering:
            return
        try:
            self.board.put_notice(Notice(number=self._number, hung=tuple(answering)))
            self._obey(Notice(hung=tuple(answering)))
            while not self.board.have_shown(answering) and time.monotonic() < now + _SHOW_SECONDS:
                time.sleep(0.1)
        except NO_ANSWER:
            return

    def _show(self) -> None:
        """Write the stack of the main thread."""
        faulthandler.cancel_dump_traceback_later()
        identity = threading.main_thread().ident
        frame = sys._current_frames().get(identity or 0)
        stack = "".join(traceback.format_stack(frame)) if frame else ""
        rank = f"rank {self.world.rank} of {self.world.size}"
        sys.stderr.write(f"Where {rank} is (most recent call last):\n{stack}")
        sys.stderr.flush()
        self.board.tell_shown(self.world.rank)

    def _end_if_stuck(self) -> None:
        """Another rank has said why the run ends, but the main thread may wait for ever.

        It may hang, or wait for a message of a rank that hangs; signals then do nothing.
        """
        faulthandler.cancel_dump_traceback_later()
        if not self.over.wait(_END_SECONDS):
            os._exit(1)

    def _show_if_stuck(self, beat: Beat) -> None:
        """If this thread is kept from running, because some code never yields, show the stacks."""
        if not beat.hurried:
            faulthandler.cancel_dump_traceback_later()
        else:
            limit = 0.7 * patience(self._sightings, self.hang_seconds)
            faulthandler.dump_traceback_later(max(limit, _STUCK_SECONDS), file=sys.stderr)
