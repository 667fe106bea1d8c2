"""The sums of multi-task parallelism, begun while the backward pass is still under way."""

from collections.abc import Mapping

from gfm_models.potential import MultiHeadPotential
from torch import Tensor, nn

from gfm_pretrain.process import Group, World, new_groups
from gfm_pretrain.reduction.buckets import Bucket, fill_buckets, squared_norm
from gfm_pretrain.reduction.reduction import Reduction

BACKBONE = "backbone"


class OverlappedReduction(Reduction):
    """The backbone is summed over all ranks, each head over its owners, bucket by bucket.

    A bucket is sent as soon as its last gradient is there. All ranks send in one order, heads as in
    the run and then the backbone, each rank leaving out the heads it does not own: ranks that share
    several groups can then never wait for one another, with one communicator or with many.

    Source: Li et al., PyTorch Distributed, VLDB 13, 3005 (2020), for buckets and overlap.
    """

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
        parts: dict[str, tuple[nn.Module, Group]] = {
            name: (potential.head(name), group)
            for name, group in groups.items()
            if name in potential.heads
        }
        parts[BACKBONE] = (potential.backbone, everyone)
        self._buckets: list[tuple[str, Bucket]] = [
            (part, bucket)
            for part, (module, group) in parts.items()
            for bucket in fill_buckets(
                module.parameters(), group, bytes_per_bucket=bytes_per_bucket
            )
        ]
        self._complete: set[str] = set()
        self._sent: list = []
        for part, bucket in self._buckets:
            for parameter in bucket.parameters:
                parameter.register_post_accumulate_grad_hook(self._hook(part, bucket))

    def begin(self) -> None:
        """Set every gradient to zero."""
        for _, bucket in self._buckets:
            bucket.begin()
        self._complete.clear()
        self._sent = []

    def backward(self, loss: Tensor, head: str, *, last_of_head: bool, last: bool) -> None:
        """Add the gradient of a part of a head's loss; send what is complete."""
        completes = {part for part, done in ((head, last_of_head), (BACKBONE, last)) if done}
        self._complete |= completes
        loss.backward()
        self._close(completes)

    def finish(self) -> None:
        """Send the rest and wait for all."""
        self._close({part for part, _ in self._buckets})
        for work in self._sent:
            if work is not None:
                work.wait()

    def squared_norms(self) -> dict[str, Tensor]:
        """Heads count on their first owner, the backbone on rank 0."""
        found = {
            name: squared_norm(self.potential.head(name).parameters())
            for name, group in self.groups.items()
            if group.ranks[0] == self.world.rank
        }
        if self.world.rank == 0:
            found[BACKBONE] = squared_norm(self.potential.backbone.parameters())
        return found

    def _hook(self, part: str, bucket: Bucket):
        def note(_: Tensor) -> None:
            if part in self._complete:
                bucket.n_waiting -= 1
                self._send_ready()

        return note

    def _close(self, parts: set[str]) -> None:
        """Count as complete what the last backward pass of a part did not touch."""
        for part, bucket in self._buckets:
            if part in parts:
                bucket.n_waiting = 0
        self._send_ready()

    def _send_ready(self) -> None:
        for _, bucket in self._buckets[len(self._sent) :]:
            if not bucket.is_ready:
                return
            self._sent.append(bucket.start_sum(self.world))
            self.bytes_sent += bucket.bytes_of_ring
