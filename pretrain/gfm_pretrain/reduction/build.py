"""The way of summing that a configuration asks for."""

from collections.abc import Mapping, Sequence

from gfm_models.potential import MultiHeadPotential

from gfm_pretrain.process import World, new_groups
from gfm_pretrain.reduction.ddp import DDPReduction
from gfm_pretrain.reduction.overlapped import OverlappedReduction
from gfm_pretrain.reduction.reduction import Reduction
from gfm_pretrain.reduction.sharded import ShardedReduction
from gfm_pretrain.training_options import TrainingOptions


def build_reduction(
    options: TrainingOptions,
    potential: MultiHeadPotential,
    owners: Mapping[str, Sequence[int]],
    world: World,
) -> Reduction:
    """Call on every rank, before anything else takes hold of the weights.

    One rank alone has nothing to sum and nothing to divide, whatever is asked for.

    Raises:
        ValueError: `shard_ranks` does not divide the number of ranks.
    """
    shard_ranks = options.shard_ranks or world.size
    if world.size % shard_ranks:
        raise ValueError(
            f"training.shard_ranks={shard_ranks} must divide the number of ranks, {world.size}; "
            "choose the number of ranks of a node, or leave it out to divide among all"
        )
    groups = dict(zip(owners, new_groups(world, list(owners.values())), strict=True))
    n_bytes = round(options.bucket_megabytes * 1e6)
    if world.size == 1 or options.reduction == "overlapped":
        return OverlappedReduction(potential, groups, world, bytes_per_bucket=n_bytes)
    if options.reduction == "ddp":
        return DDPReduction(potential, groups, world, bytes_per_bucket=n_bytes)
    return ShardedReduction(
        potential, groups, world, bytes_per_bucket=n_bytes, shard_ranks=shard_ranks
    )
