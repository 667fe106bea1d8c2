"""An error that only says that some other rank has gone, or did not come: which rank it is."""

import os
import re
import time
from collections.abc import Sequence

import torch.distributed as dist

from gfm_pretrain.beats import NO_ANSWER, Board
from gfm_pretrain.verdict import MOST_NAMED, RankError, last_seen, late_ranks, lost_ranks, name_rank
from gfm_pretrain.watchdog import beat_seconds

_LISTEN_SECONDS = 5.0
"""How long we wait for the rank that knows the reason to say it, and for beats of the others."""
_BEATS = 4
"""Beats that a rank must have missed to be called lost."""
_POLL_SECONDS = 0.1

_LOST_CONTACT = re.compile(
    r"closed|closure|reset by peer|broken pipe|refused|timed? ?out|no data|failed to recv"
    r"|recvvalue failed|sendbytes failed|remote ?(process|error)|communicator was aborted",
    re.IGNORECASE,
)
_TIMED_OUT = re.compile(r"timed? ?out", re.IGNORECASE)


def is_lost_contact(error: BaseException) -> bool:
    """Whether the error only says that another rank has gone, so that it is not the reason."""
    text = str(error)
    of_distributed = isinstance(error, dist.DistError) or "gloo" in text
    is_ours = "enforce fail" in text.lower()  # gloo's word for tensors that do not match
    connection = isinstance(error, RuntimeError) and of_distributed and not is_ours
    return connection and _LOST_CONTACT.search(text) is not None


def find_lost(error: BaseException, board: Board, size: int) -> BaseException:
    """Wait for whoever knows the reason; if nobody does, name the ranks that were lost.

    Args:
        error: That contact was lost.
        board: Where ranks put up their beats.
        size: Number of ranks.

    Returns:
        A `RankError` where it can be known which rank it is, else `error`.
    """
    try:
        before = board.beats()
        if _is_said_within(_LISTEN_SECONDS + _BEATS * (beat_seconds(size) - 1.0), board):
            return error
        after = board.beats()
    except NO_ANSWER:  # the store has gone with the process that served it
        known = not board.is_said and _is_served_by_rank_0()
        return _lost([0], board, size) if known else error
    if lost := lost_ranks(before, after):
        return _lost(lost, board, size)
    late = late_ranks(after) if _TIMED_OUT.search(str(error)) else ()
    return RankError(f"{_names(late, board, size)}, and did not come in time") if late else error


def first_sentence(text: str) -> str:
    """What torch's errors say before they give advice."""
    without_source_line = re.sub(r"^\[[^]]*]\s*", "", text)
    return without_source_line.splitlines()[0].split(". ")[0]


def _is_said_within(seconds: float, board: Board) -> bool:
    """Whether some rank says the reason meanwhile."""
    end = time.monotonic() + seconds
    while not board.is_said and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
        board.listen_for_end()
    return board.is_said


def _lost(ranks: Sequence[int], board: Board, size: int) -> RankError:
    return RankError(f"lost {_names(ranks, board, size)}")


def _names(ranks: Sequence[int], board: Board, size: int) -> str:
    """The ranks, their processes, and what they did last."""
    named = [
        f"{name_rank(rank, board.known[rank], size)}, last seen {last_seen(board.known[rank])}"
        if rank in board.known
        else f"rank {rank} of {size}"
        for rank in ranks[:MOST_NAMED]
    ]
    more = f"; and {len(ranks) - MOST_NAMED} more" if len(ranks) > MOST_NAMED else ""
    return "; ".join(named) + more


def _is_served_by_rank_0() -> bool:
    """Whether the store ends with rank 0; torchrun's agents serve their own."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
