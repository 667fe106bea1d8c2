"""How many times a rank goes through the network in a step: as many structures at once as fit."""

import numpy as np
from jaxtyping import Int, Int64


def split_by_size(sizes: Int[np.ndarray, " items"], limit: int) -> list[slice]:
    """Cut a sequence into runs whose sizes sum to at most `limit` (a run has at least one item)."""
    cuts, total = [0], 0
    for place, size in enumerate(sizes):
        if total + size > limit and place > cuts[-1]:
            cuts.append(place)
            total = 0
        total += size
    return [slice(a, b) for a, b in zip(cuts, [*cuts[1:], len(sizes)], strict=True) if b > a]


def count_passes(
    sizes: Int[np.ndarray, " items"],
    ranks: Int[np.ndarray, " items"],
    *,
    n_ranks: int,
    limit: int,
) -> Int64[np.ndarray, " ranks"]:
    """Number of runs that `split_by_size` cuts what each rank has into, for all ranks at once.

    Args:
        sizes: Of the items of all ranks.
        ranks: Who has each.
        n_ranks: Number of ranks.
        limit: Of the sum of a run.
    """
    until = np.append(0, np.cumsum(sizes[np.argsort(ranks, kind="stable")]))
    n_items = np.bincount(ranks, minlength=n_ranks)
    ends = np.cumsum(n_items)
    begins, n_passes = ends - n_items, np.zeros(n_ranks, dtype=np.int64)
    left = np.flatnonzero(n_items)
    while len(left):
        fit = np.searchsorted(until, until[begins[left]] + limit, side="right") - 1
        begins[left] = np.minimum(np.maximum(fit, begins[left] + 1), ends[left])
        n_passes[left] += 1
        left = left[begins[left] < ends[left]]
    return n_passes
