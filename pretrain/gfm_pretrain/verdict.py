"""Who holds up a run: a pure function of what was heard of its ranks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gfm_pretrain.beats import Beat

FACTOR = 10.0
"""How many times longer than ever before a rank may take between two signs of progress."""
MOST_NAMED = 3
"""Ranks that a message names."""


class RankError(RuntimeError):
    """Another rank is why the run ends; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """The last that was heard of a rank, by the clock of whoever listens."""

    beat: Beat
    heard: float
    """When its last beat came."""
    moved: float
    """When it last gave a sign of progress."""


def listen(
    sightings: Mapping[int, Sighting], beats: Mapping[int, Beat], now: float
) -> dict[int, Sighting]:
    """What is known of all ranks once these beats have been read."""
    found = dict(sightings)
    for rank, beat in beats.items():
        old = sightings.get(rank)
        if old is None or old.beat.progress != beat.progress:
            found[rank] = Sighting(beat=beat, heard=now, moved=now)
        elif old.beat.number != beat.number:
            found[rank] = Sighting(beat=beat, heard=now, moved=old.moved)
    return found


def patience(sightings: Mapping[int, Sighting], hang_seconds: float) -> float:
    """Seconds without a sign of progress that are too long."""
    longest = max((s.beat.longest for s in sightings.values()), default=0.0)
    return max(hang_seconds, FACTOR * longest)


def hung_ranks(
    sightings: Mapping[int, Sighting], *, now: float, hang_seconds: float
) -> tuple[int, ...]:
    """Ranks that others have waited for too long; all ranks, if all wait for one another.

    While some rank is not hurried nobody is: in set-up and the first step, or writing files. Of a
    silent rank this is not known: if it beats no more it is no excuse that it was not before.
    """
    limit = patience(sightings, hang_seconds)
    silent = {rank for rank, s in sightings.items() if now - s.heard > limit}
    if not all(s.beat.hurried for rank, s in sightings.items() if rank not in silent):
        return ()
    still = {rank for rank, s in sightings.items() if now - s.moved > limit}
    waiting = {rank for rank in still - silent if sightings[rank].beat.waits}
    hung = silent | (still - waiting)
    if not waiting:
        return ()
    if not hung and len(waiting) == len(sightings):
        return tuple(sorted(waiting))
    return tuple(sorted(hung))


def explain(
    hung: Sequence[int], sightings: Mapping[int, Sighting], *, now: float, size: int
) -> str:
    """One line about the ranks that hold up a run."""
    if len(hung) == size:
        places = ", ".join(f"rank {r} in {sightings[r].beat.activity}" for r in hung[:MOST_NAMED])
        seconds = min(now - s.moved for s in sightings.values())
        return (
            f"all ranks have waited for one another for {seconds:.0f} s "
            f"({places}{_more(hung)}); their stacks are above"
        )
    return "; ".join(_about(rank, sightings[rank], now, size) for rank in hung[:MOST_NAMED]) + (
        _more(hung)
    )


def name_rank(rank: int, beat: Beat, size: int) -> str:
    """Such as `rank 1 of 4 (host n01, pid 4711)`."""
    return f"rank {rank} of {size} (host {beat.host}, pid {beat.pid})"


def last_seen(beat: Beat) -> str:
    """Such as `after step 7, in forward of rmd17`."""
    return f"{'in set-up' if beat.step is None else f'after step {beat.step}'}, in {beat.activity}"


def lost_ranks(before: Mapping[int, Beat], after: Mapping[int, Beat]) -> tuple[int, ...]:
    """Ranks that have not beaten between two looks some seconds apart."""
    return tuple(
        rank
        for rank, beat in after.items()
        if rank in before and before[rank].number == beat.number
    )


def late_ranks(beats: Mapping[int, Beat]) -> tuple[int, ...]:
    """Ranks that do not wait while others have waited for them until a message timed out."""
    late = tuple(rank for rank, beat in beats.items() if not beat.waits)
    return late if len(late) < len(beats) else ()


def _about(rank: int, sighting: Sighting, now: float, size: int) -> str:
    beat = sighting.beat
    name = name_rank(rank, beat, size)
    silence = now - sighting.heard
    if silence > (now - sighting.moved) / 2:
        return (
            f"{name} does not answer: nothing was heard of it for {silence:.0f} s, last "
            f"{last_seen(beat)}; its process is stopped or has gone, or its node or network has"
        )
    return (
        f"{name} hangs {last_seen(beat)}; others have waited for it for "
        f"{now - sighting.moved:.0f} s; its stack is above"
    )


def _more(hung: Sequence[int]) -> str:
    return f" and {len(hung) - MOST_NAMED} more" if len(hung) > MOST_NAMED else ""
