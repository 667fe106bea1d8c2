"""torch's DistributedDataParallel with a hook that sums: what others use, for comparison."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext

import torch
import torch.distributed as dist
from gfm_models.potential import MultiHeadPotential
from torch import Tensor, nn
from torch.distributed import GradBucket  # pyright: ignore[reportPrivateImportUsage] (in the docs)
from torch.nn.parallel import DistributedDataParallel

from gfm_pretrain.process import Group, World
from gfm_pretrain.reduction.buckets import squared_norm
from gfm_pretrain.reduction.heads import head_norms
from gfm_pretrain.reduction.reduction import BACKBONE, Reduction

MEBIBYTE = 2**20


class DDPReduction(Reduction):
    """Every rank holds all heads, and everything is summed over all ranks.

    DDP watches the weights, not the calls: it is told of a loss when it is complete, forces
    included, and finds by itself which weights the loss reaches. Those of other heads it counts as
    unused and sends with the rest.
    """

    def __init__(
        self,
        potential: MultiHeadPotential,
        groups: Mapping[str, Group],
        world: World,
        *,
        bytes_per_bucket: int,
    ) -> None:
        assert set(groups) == set(potential.head_names), "DDP needs every head on every rank"
        self.world = world
        self.groups = groups
        self.potential = potential
        self._bytes_sent = 0
        self._trained = [p for p in potential.parameters() if p.requires_grad]
        self.ddp = DistributedDataParallel(
            _Passage(self._trained),
            find_unused_parameters=len(groups) > 1,
            gradient_as_bucket_view=True,
            bucket_cap_mb=bytes_per_bucket / MEBIBYTE,
        )
        self.ddp.register_comm_hook(None, _start_sum)
        self._is_summed = False

    @property
    def bytes_sent(self) -> int:
        """What this rank has sent for gradients so far, by the formula of the ring."""
        return self._bytes_sent

    def begin(self, heads: Collection[str]) -> None:  # noqa: ARG002 (DDP finds out by itself)
        """Set every gradient to zero."""
        for parameter in self._trained:
            parameter.grad = None
        self._is_summed = False

    def backward(
        self,
        loss: Tensor,
        head: str,
        *,
        last_of_head: bool,  # noqa: ARG002 (heads are sent with the backbone)
        last: bool,
    ) -> None:
        """Add the gradient of a part of a head's loss; with the last one, sum over ranks."""
        with nullcontext() if last else self.ddp.no_sync(), warnings.catch_warnings():
            # Rows of one element come from the second derivative with other strides: no matter.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view")
            self.world.pulse.beat(f"backward of {head or 'nothing'}, summed by DDP", waits=last)
            self.ddp(loss).backward()
        self._is_summed = last

    def finish(self) -> None:
        """Take part in the sum where this rank had no work."""
        if not self._is_summed:
            self.backward(self._zero_loss(), "", last_of_head=True, last=True)
        for parameter in self._trained:
            if parameter.grad is None:  # of a head that no rank had structures of
                parameter.grad = torch.zeros_like(parameter)
        n_bytes = sum(p.numel() * p.element_size() for p in self._trained)
        self._bytes_sent += round(2 * (self.world.size - 1) / self.world.size * n_bytes)

    def squared_norms(self) -> dict[str, Tensor]:
        """All of it on rank 0."""
        found = head_norms(self.potential, self.groups, self.world)
        if self.world.rank == 0:
            found[BACKBONE] = squared_norm(self.potential.backbone.parameters())
        return found

    def _zero_loss(self) -> Tensor:
        """Reaches all weights, or just one where DDP looks for those that are not reached."""
        reached = self._trained[:1] if len(self.groups) > 1 else self._trained
        return torch.stack([0.0 * p.sum() for p in reached]).sum()


class _Passage(nn.Module):
    """Holds the weights, and lets a loss pass through."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.parameters_of_all = nn.ParameterList(parameters)

    def forward(self, loss: Tensor) -> Tensor:
        return loss


def _start_sum(_: object, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """DDP's own hook divides by the number of ranks; this one does not."""
    work = dist.all_reduce(bucket.buffer(), op=dist.ReduceOp.SUM, async_op=True)
    assert work is not None
    return work.get_future().then(lambda done: done.value()[0])
