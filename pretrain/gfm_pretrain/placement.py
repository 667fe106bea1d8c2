"""Which ranks own which head, and which rank takes which structure of a step: pure arithmetic."""

import heapq
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

SMALLEST_SHARE = 0.02
"""Part of a rank (or of a small head) below which a head does not spill over onto that rank."""


def place_heads(
    costs: Sequence[float], n_ranks: int, *, method: str = "wrap-around"
) -> list[tuple[int, ...]]:
    """Ranks that own each head, ascending; every head has one, every rank owns at least one head.

    Args:
        costs: Cost of a step of each head, in any unit.
        n_ranks: Number of ranks; it may be smaller or larger than the number of heads.
        method: "wrap-around", "whole-ranks", or "everywhere": each head on all ranks.

    Raises:
        ValueError: no heads, no ranks, a cost that is not positive, or an unknown method.
    """
    if not costs or n_ranks < 1 or min(costs) <= 0:
        raise ValueError(
            f"placement needs heads with positive costs and at least one rank, "
            f"got costs {list(costs)} and {n_ranks} ranks"
        )
    if method == "wrap-around":
        return _wrap_around(costs, n_ranks)
    if method == "whole-ranks":
        return _apportion(costs, n_ranks) if n_ranks >= len(costs) else _share(costs, n_ranks)
    if method == "everywhere":
        return [tuple(range(n_ranks))] * len(costs)
    raise ValueError(f"placement must be wrap-around, whole-ranks or everywhere, got '{method}'")


def pack(
    costs: Mapping[str, Float[np.ndarray, " structures"]],
    owners: Mapping[str, Sequence[int]],
    n_ranks: int,
) -> list[dict[str, Int[np.ndarray, " taken"]]]:
    """Deal the structures of a step to the owners of their heads, the dearest first.

    Args:
        costs: Cost of each structure of the global batch, by head.
        owners: Ranks that own each head.
        n_ranks: Number of ranks.

    Returns:
        For each rank and head it takes structures of, their places in the head's global batch.
    """
    heads = list(costs)
    order = sorted(
        ((-cost, h, i) for h, head in enumerate(heads) for i, cost in enumerate(costs[head])),
    )
    load = [0.0] * n_ranks
    waiting = {head: [(0.0, rank) for rank in sorted(owners[head])] for head in heads}
    taken: list[dict[str, list[int]]] = [{} for _ in range(n_ranks)]
    for negative_cost, h, i in order:
        rank = _least_loaded(waiting[heads[h]], load)
        load[rank] -= negative_cost
        taken[rank].setdefault(heads[h], []).append(i)
    return [
        {head: np.sort(np.array(places)) for head, places in of_rank.items()} for of_rank in taken
    ]


def split_by_size(sizes: Int[np.ndarray, " items"], limit: int) -> list[slice]:
    """Cut a sequence into runs whose sizes sum to at most `limit` (a run has at least one item)."""
    cuts, total = [0], 0
    for place, size in enumerate(sizes):
        if total + size > limit and place > cuts[-1]:
            cuts.append(place)
            total = 0
        total += size
    return [slice(a, b) for a, b in zip(cuts, [*cuts[1:], len(sizes)], strict=True) if b > a]


def _least_loaded(waiting: list[tuple[float, int]], load: Sequence[float]) -> int:
    """First of a heap of ranks; loads that grew since they were noted are brought up to date."""
    while waiting[0][0] < load[waiting[0][1]]:
        rank = waiting[0][1]
        heapq.heapreplace(waiting, (load[rank], rank))
    return waiting[0][1]


def _wrap_around(costs: Sequence[float], n_ranks: int) -> list[tuple[int, ...]]:
    """Heads end to end on [0, n_ranks), as long as they are dear, cut at the whole numbers.

    Perfectly balanced for any number of ranks; only the ranks at a head's ends are shared.
    Source: McNaughton's rule, Management Science 6, 1 (1959).
    """
    total = math.fsum(costs)
    owners, end = [], 0.0
    for cost in costs:
        start, end = end, end + cost * n_ranks / total
        touched = range(min(int(start), n_ranks - 1), min(n_ranks, max(math.ceil(end), 1)))
        shares = {rank: min(end, rank + 1) - max(start, rank) for rank in touched}
        enough = SMALLEST_SHARE * min(1.0, end - start)
        kept = [rank for rank, share in shares.items() if share > enough]
        owners.append(tuple(kept or [max(shares, key=shares.__getitem__)]))
    return _without_idle_ranks(owners, n_ranks)


def _without_idle_ranks(owners: Sequence[tuple[int, ...]], n_ranks: int) -> list[tuple[int, ...]]:
    """Give a rank that rounding left without a head the head that ends beside it."""
    filled = [set(ranks) for ranks in owners]
    for rank in range(n_ranks):
        if not any(rank in ranks for ranks in filled):
            min(filled, key=lambda ranks: min(abs(rank - r) for r in ranks)).add(rank)
    return [tuple(sorted(ranks)) for ranks in filled]


def _apportion(costs: Sequence[float], n_ranks: int) -> list[tuple[int, ...]]:
    """One rank for each head, each further rank to the head with the most cost per rank."""
    counts = [1] * len(costs)
    waiting = [(-cost, head) for head, cost in enumerate(costs)]
    heapq.heapify(waiting)
    for _ in range(n_ranks - len(costs)):
        _, head = heapq.heappop(waiting)
        counts[head] += 1
        heapq.heappush(waiting, (-costs[head] / counts[head], head))
    ends = np.cumsum(counts)
    return [tuple(range(end - n, end)) for n, end in zip(counts, ends.tolist(), strict=True)]


def _share(costs: Sequence[float], n_ranks: int) -> list[tuple[int, ...]]:
    """Whole heads on fewer ranks, the dearest first to the least loaded rank."""
    load = [0.0] * n_ranks
    owners: list[tuple[int, ...]] = [()] * len(costs)
    for head in sorted(range(len(costs)), key=lambda h: (-costs[h], h)):
        rank = min(range(n_ranks), key=lambda r: (load[r], r))
        load[rank] += costs[head]
        owners[head] = (rank,)
    return owners
