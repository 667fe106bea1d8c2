"""The largest of some numbers over all ranks, and which rank has it, in one small message."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from gfm_pretrain.process import World, all_reduce_max

RANK_BITS = 20
"""A million ranks; 43 bits are left for the number, enough for bytes of memory up to 8 TB."""


@dataclass(frozen=True, kw_only=True)
class Largest:
    """Largest value over ranks."""

    value: int
    rank: int
    """The first of those that have it."""


def largest_over_ranks(world: World, values: Mapping[str, int]) -> dict[str, Largest]:
    """Largest of each value and its rank. Call on every rank.

    A number and the rank that has it travel as one integer, so that a maximum finds both.

    Args:
        world: All ranks, at most 2^20.
        values: Of this rank, not negative and below 2^43; the same names on every rank.
    """
    last = (1 << RANK_BITS) - 1
    packed = torch.tensor(
        [(value << RANK_BITS) | (last - world.rank) for value in values.values()],
        dtype=torch.int64,
        device=world.device,
    )
    found = all_reduce_max(world, packed).tolist()
    return {
        name: Largest(value=number >> RANK_BITS, rank=last - (number & last))
        for name, number in zip(values, found, strict=True)
    }
