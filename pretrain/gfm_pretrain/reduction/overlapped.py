"""The sums of multi-task parallelism, begun while the backward pass is still under way."""

from collections.abc import Collection, Mapping

from gfm_models.potential import MultiHeadPotential
from torch import Tensor

from gfm_pretrain.process import Group, World, new_groups
from gfm_pretrain.reduction.buckets import squared_norm
from gfm_pretrain.reduction.heads import head_norms, owned_heads
from gfm_pretrain.reduction.ordered import OrderedSums
from gfm_pretrain.reduction.reduction import BACKBONE, Reduction


class OverlappedReduction(Reduction):
    """The backbone is on every rank and summed over all, each head over its owners."""

    def __init__(
        self,
        potential: MultiHeadPotential,
        groups: Mapping[str, Group],
        world: World,
        *,
        bytes_per_bucket: int,
    ) -> None:
        self.world = world
        self.groups = groups
        self.potential = potential
        (everyone,) = new_groups(world, [range(world.size)])
        self.sums = OrderedSums(
            {**owned_heads(potential, groups), BACKBONE: (potential.backbone, everyone)},
            world,
            bytes_per_bucket=bytes_per_bucket,
        )

    @property
    def bytes_sent(self) -> int:
        """What this rank has sent for gradients so far, by the formula of the ring."""
        return self.sums.bytes_sent

    def begin(self, heads: Collection[str]) -> None:
        """Set every gradient to zero; send what nothing will be added to."""
        self.sums.begin()
        self.sums.close(
            {h for h in self.groups if h not in heads} | (set() if heads else {BACKBONE})
        )

    def backward(self, loss: Tensor, head: str, *, last_of_head: bool, last: bool) -> None:
        """Add the gradient of a part of a head's loss; send what is complete."""
        completes = {part for part, done in ((head, last_of_head), (BACKBONE, last)) if done}
        self.sums.expect_last(completes)
        loss.backward()
        self.sums.close(completes)

    def finish(self) -> None:
        """Send the rest and wait for all."""
        self.sums.finish()

    def squared_norms(self) -> dict[str, Tensor]:
        """Heads count on their first owner, the backbone on rank 0."""
        found = head_norms(self.potential, self.groups, self.world)
        if self.world.rank == 0:
            found[BACKBONE] = squared_norm(self.potential.backbone.parameters())
        return found
