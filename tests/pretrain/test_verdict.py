"""Who holds up a run, from what was heard of its ranks."""

from dataclasses import replace

import pytest
from gfm_pretrain.beats import Beat
from gfm_pretrain.verdict import (
    Sighting,
    explain,
    hung_ranks,
    last_seen,
    late_ranks,
    listen,
    lost_ranks,
    patience,
)

BEAT = Beat(
    number=1,
    host="n01",
    pid=7,
    step=3,
    hurried=True,
    activity="forward of a",
    waits=False,
    progress=5,
    longest=0.0,
    stop=None,
)
NOW = 1000.0
LIMIT = 10.0


def sighting(*, heard: float = 0.0, moved: float = 0.0, **facts) -> Sighting:
    """Of a rank that was heard and that moved so many seconds ago."""
    return Sighting(beat=replace(BEAT, **facts), heard=NOW - heard, moved=NOW - moved)


WAITS = sighting(waits=True, moved=11, activity="a sum")
WAITS_A_LITTLE = sighting(waits=True, moved=9)
MOVES = sighting(moved=1)
STILL = sighting(moved=12)
SILENT = sighting(heard=12, moved=12)
WRITES = sighting(moved=500, hurried=False)
SET_UP = sighting(moved=500, hurried=False, step=None)


@pytest.mark.parametrize(
    ("ranks", "hung"),
    [
        ([WAITS, MOVES], ()),
        ([WAITS, STILL], (1,)),
        ([WAITS, STILL, STILL, MOVES], (1, 2)),
        ([WAITS_A_LITTLE, STILL], ()),
        ([MOVES, STILL], ()),
        ([STILL, STILL], ()),
        ([WAITS, SILENT], (1,)),
        ([MOVES, SILENT], ()),
        ([WAITS, WAITS], (0, 1)),
        ([WAITS, WAITS_A_LITTLE], ()),
        ([WAITS, WRITES], ()),
        ([WAITS, STILL, WRITES], ()),
        ([WAITS, SET_UP], ()),
        ([WAITS, sighting(heard=12, moved=12, hurried=False, step=None)], (1,)),
        ([WAITS, sighting(heard=12, moved=12, waits=True)], (1,)),
    ],
)
def test_who_hangs(ranks, hung):
    assert hung_ranks(dict(enumerate(ranks)), now=NOW, hang_seconds=LIMIT) == hung


def test_who_has_been_slow_may_be_slow_again():
    ranks = {0: sighting(waits=True, moved=90, longest=9.5), 1: sighting(moved=90)}
    assert patience(ranks, LIMIT) == 95
    assert hung_ranks(ranks, now=NOW, hang_seconds=LIMIT) == ()
    assert hung_ranks(ranks, now=NOW + 6, hang_seconds=LIMIT) == (1,)


def test_listening_notes_beats_and_progress_apart():
    known = listen({}, {0: BEAT}, 1.0)
    known = listen(known, {0: replace(BEAT, number=2)}, 2.0)
    assert (known[0].heard, known[0].moved) == (2.0, 1.0)
    known = listen(known, {0: replace(BEAT, number=2)}, 3.0)
    assert (known[0].heard, known[0].moved) == (2.0, 1.0)
    known = listen(known, {0: replace(BEAT, number=4, progress=6)}, 4.0)
    assert (known[0].heard, known[0].moved) == (4.0, 4.0)
    assert listen(known, {}, 9.0) == known


def said(*ranks: Sighting) -> str:
    known = dict(enumerate(ranks))
    hung = hung_ranks(known, now=NOW, hang_seconds=LIMIT)
    return explain(hung, known, now=NOW, size=len(ranks))


def test_what_is_said():
    assert said(WAITS, STILL) == (
        "rank 1 of 2 (host n01, pid 7) hangs after step 3, in forward of a; others have waited for "
        "it for 12 s; its stack is above"
    )
    assert said(WAITS, SILENT).startswith(
        "rank 1 of 2 (host n01, pid 7) does not answer: nothing was heard of it for 12 s, last "
        "after step 3, in forward of a; "
    )
    assert said(WAITS, WAITS) == (
        "all ranks have waited for one another for 11 s (rank 0 in a sum, rank 1 in a sum); their "
        "stacks are above"
    )
    many = said(WAITS, *[STILL] * 5)
    assert many.count("hangs") == 3
    assert many.endswith(" and 2 more")


def test_where_a_rank_was_seen_last():
    assert last_seen(BEAT) == "after step 3, in forward of a"
    assert last_seen(replace(BEAT, step=None, activity="a sum")) == "in set-up, in a sum"


def test_who_does_not_beat_is_lost():
    later = {0: replace(BEAT, number=3), 1: BEAT, 2: BEAT}
    assert lost_ranks({0: BEAT, 1: BEAT}, later) == (1,)


def test_who_does_not_wait_is_late():
    waits = replace(BEAT, waits=True)
    assert late_ranks({0: waits, 1: BEAT, 2: waits}) == (1,)
    assert late_ranks({0: BEAT, 1: BEAT}) == ()
    assert late_ranks({0: waits, 1: waits}) == ()
