"""Placement of a run's heads: by what a step of each costs, and by how much that changes."""

from collections.abc import Mapping
from fractions import Fraction

from gfm_pretrain.cost import RelativeCost
from gfm_pretrain.data.size_statistics import SizeStatistics
from gfm_pretrain.placement import place_heads


def place_mixture(
    statistics: Mapping[str, SizeStatistics],
    batch_sizes: Mapping[str, Fraction],
    *,
    cost: RelativeCost,
    n_ranks: int,
    method: str,
    spill: float,
) -> dict[str, tuple[int, ...]]:
    """Ranks that own each head.

    Args:
        statistics: Of the training set of each head.
        batch_sizes: Structures of each head in a step, on average.
        cost: Of a structure.
        n_ranks: Number of ranks.
        method: As for `place_heads`.
        spill: Standard deviations of the cost of a step by which heads reach over.
    """
    sized = [(of_head, batch_sizes[name]) for name, of_head in statistics.items()]
    owners = place_heads(
        [of_head.mean_cost(cost) * float(batch) for of_head, batch in sized],
        n_ranks,
        method=method,
        spreads=[spill * of_head.step_spread(batch, cost) for of_head, batch in sized],
    )
    return dict(zip(statistics, owners, strict=True))
