"""The heads of a rank, and the ranks that share each of them."""

from collections.abc import Mapping

from gfm_models.heads import Head
from gfm_models.potential import MultiHeadPotential
from torch import Tensor

from gfm_pretrain.process import Group, World
from gfm_pretrain.reduction.buckets import squared_norm


def owned_heads(
    potential: MultiHeadPotential, groups: Mapping[str, Group]
) -> dict[str, tuple[Head, Group]]:
    """The heads on this rank with their owners, in the order of the run."""
    return {
        name: (potential.head(name), group)
        for name, group in groups.items()
        if name in potential.heads
    }


def head_norms(
    potential: MultiHeadPotential, groups: Mapping[str, Group], world: World
) -> dict[str, Tensor]:
    """Squared norm of the gradient of each head, on its first owner only."""
    return {
        name: squared_norm(potential.head(name).parameters())
        for name, group in groups.items()
        if group.ranks[0] == world.rank
    }
