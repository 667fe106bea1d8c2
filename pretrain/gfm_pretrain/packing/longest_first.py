"""The dearest first, each to the rank that has least: alone, and many at a time."""

import heapq

import numpy as np
from jaxtyping import Int64

FEW_RANKS = 48
"""Up to which single steps with a heap are faster than whole arrays [measured]."""
SHORT_RUN = 12
"""Structures dealt at once below which the next ones are dealt singly."""
SINGLES = 64
"""How many then are."""


def deal_longest_first(
    costs: Int64[np.ndarray, " structures"], loads: Int64[np.ndarray, " ranks"]
) -> Int64[np.ndarray, " structures"]:
    """Which rank takes each structure; `loads` grow in place.

    Args:
        costs: Descending.
        loads: What each rank has already.

    Source: Graham, SIAM J. Appl. Math. 17, 416 (1969).
    """
    taken_by = np.empty(len(costs), dtype=np.int64)
    done = 0
    while done < len(costs):
        if len(loads) > FEW_RANKS:
            done += _deal_run(costs[done:], loads, taken_by[done:])
        n_singles = SINGLES if len(loads) > FEW_RANKS else len(costs)
        done += _deal_singly(costs[done : done + n_singles], loads, taken_by[done:])
    return taken_by


def _deal_run(
    costs: Int64[np.ndarray, " left"],
    loads: Int64[np.ndarray, " ranks"],
    taken_by: Int64[np.ndarray, " left"],
) -> int:
    """Deal while whole runs of structures can be; how many were.

    Of ranks in the order of their loads the j-th takes the j-th structure as long as none before it
    has become the least loaded again.
    """
    done = 0
    while done < len(costs):
        order = np.argsort(loads, kind="stable")[: len(costs) - done]
        grown = loads[order] + costs[done : done + len(order)]
        lowest = np.minimum.accumulate(grown)
        overtaken = np.flatnonzero(loads[order[1:]] >= lowest[:-1])
        n = int(overtaken[0]) + 1 if len(overtaken) else len(order)
        loads[order[:n]] = grown[:n]
        taken_by[done : done + n] = order[:n]
        done += n
        if n < SHORT_RUN:
            break
    return done


def _deal_singly(
    costs: Int64[np.ndarray, " some"],
    loads: Int64[np.ndarray, " ranks"],
    taken_by: Int64[np.ndarray, " left"],
) -> int:
    """Deal one after the other; how many there were."""
    heap = list(zip(loads.tolist(), range(len(loads)), strict=True))
    heapq.heapify(heap)
    for place, cost in enumerate(costs.tolist()):
        load, rank = heap[0]
        taken_by[place] = rank
        heapq.heapreplace(heap, (load + cost, rank))
    for load, rank in heap:
        loads[rank] = load
    return len(costs)
