"""Which ranks own which head: pure arithmetic."""

import heapq
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

SMALLEST_SHARE = 0.02
"""Part of a rank (or of a small head) below which a head does not spill over onto that rank."""


def place_heads(
    costs: Sequence[float],
    n_ranks: int,
    *,
    method: str = "wrap-around",
    spreads: Sequence[float] | None = None,
) -> list[tuple[int, ...]]:
    """Ranks that own each head, ascending; every head has one, every rank owns at least one head.

    Args:
        costs: Cost of a step of each head, in any unit.
        n_ranks: Number of ranks; it may be smaller or larger than the number of heads.
        method: "wrap-around", "whole-ranks", or "everywhere": each head on all ranks.
        spreads: By how much the cost of a step of each head may differ from that; none by default.
            With "wrap-around" neighbours then reach over into one another.

    Raises:
        ValueError: no heads, no ranks, a cost that is not positive, or an unknown method.
    """
    if not costs or n_ranks < 1 or min(costs) <= 0:
        raise ValueError(
            f"placement needs heads with positive costs and at least one rank, "
            f"got costs {list(costs)} and {n_ranks} ranks"
        )
    if method == "wrap-around":
        return _wrap_around(costs, spreads or [0.0] * len(costs), n_ranks)
    if method == "whole-ranks":
        return _apportion(costs, n_ranks) if n_ranks >= len(costs) else _share(costs, n_ranks)
    if method == "everywhere":
        return [tuple(range(n_ranks))] * len(costs)
    raise ValueError(f"placement must be wrap-around, whole-ranks or everywhere, got '{method}'")


def _wrap_around(
    costs: Sequence[float], spreads: Sequence[float], n_ranks: int
) -> list[tuple[int, ...]]:
    """Heads end to end on [0, n_ranks), as long as they are dear, cut at the whole numbers.

    Perfectly balanced for any number of ranks; only the ranks at a head's ends are shared, or those
    that the ends may come to lie on.
    Source: McNaughton's rule, Management Science 6, 1 (1959).
    """
    ends = np.array([math.fsum(costs[:n]) for n in range(len(costs) + 1)]) * n_ranks
    ends /= math.fsum(costs)
    reach = _reach(costs, spreads, n_ranks)
    starts = np.minimum.accumulate((ends - reach)[-2::-1])[::-1]
    stops = np.maximum.accumulate((ends + reach)[1:])
    owners = [_touched(a, b, n_ranks) for a, b in zip(starts, stops, strict=True)]
    return _without_idle_ranks(owners, n_ranks)


def _reach(
    costs: Sequence[float], spreads: Sequence[float], n_ranks: int
) -> Float[np.ndarray, " heads_and_1"]:
    """By how many ranks the ends between heads move when costs differ, independently, by spreads.

    An end lies at the part f of the line that the cost before it is of all; with variances v
    before it and w behind it moves by the root of (1 - f)² v + f² w, relative to all.
    """
    total = math.fsum(costs)
    part = np.append(0.0, np.cumsum(costs)) / total
    before = np.append(0.0, np.cumsum(np.square(spreads)))
    variance = (1 - part) ** 2 * before + part**2 * (before[-1] - before)
    return np.sqrt(np.maximum(variance, 0.0)) * n_ranks / total


def _touched(start: float, end: float, n_ranks: int) -> tuple[int, ...]:
    """The ranks that lie in an interval by more than a sliver, or the one that does most."""
    start, end = max(start, 0.0), min(end, float(n_ranks))
    touched = range(min(int(start), n_ranks - 1), min(n_ranks, max(math.ceil(end), 1)))
    shares = {rank: min(end, rank + 1) - max(start, rank) for rank in touched}
    enough = SMALLEST_SHARE * min(1.0, end - start)
    kept = [rank for rank, share in shares.items() if share > enough]
    return tuple(kept or [max(shares, key=shares.__getitem__)])


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
