"""A backbone in pieces, for one that is too large to be whole on every rank."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from gfm_models.graph import AtomicGraph, build_graph
from gfm_models.potential import MultiHeadPotential
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import Shard

from gfm_pretrain.process import Group, World
from gfm_pretrain.reduction.buckets import squared_norm
from gfm_pretrain.reduction.gloo import DealAndSum
from gfm_pretrain.reduction.heads import head_norms, owned_heads
from gfm_pretrain.reduction.ordered import OrderedSums
from gfm_pretrain.reduction.reduction import BACKBONE, Reduction


class ShardedReduction(Reduction):
    """Each rank holds 1 / `shard_ranks` of the backbone, and the heads it owns.

    The backbone's weights, averages and moments are in pieces; a step gathers the weights before
    its first pass, adds up the gradients of all passes, and deals their sum out once at the end:
    together no more bytes than one sum over all ranks. Forces need the weights from the first
    forward pass to the end of the last backward pass, so that giving them up in between would save
    memory at no time when it is scarce, and send them once for each pass. And ranks may have any
    number of passes, or none: nothing is sent inside a pass.

    The sum at the end is made by FSDP's own hooks, in a last backward pass that every rank takes on
    no atoms and that adds zero. On every rank the order is: gather, heads in their order, backbone.
    A head that all ranks own shares the backbone's communicator, and any other order would hang.

    Args:
        potential: Its backbone is divided, in place; build optimisers afterwards.
        groups: Owners of each head.
        world: All ranks.
        bytes_per_bucket: For the heads.
        shard_ranks: Among how many neighbouring ranks the backbone is divided. With fewer than
            there are, as many ranks as share a node, it is repeated from group to group, and only
            pieces are summed between groups.
    """

    def __init__(
        self,
        potential: MultiHeadPotential,
        groups: Mapping[str, Group],
        world: World,
        *,
        bytes_per_bucket: int,
        shard_ranks: int,
    ) -> None:
        self.world = world
        self.groups = groups
        self.potential = potential
        self.shard_ranks = shard_ranks
        self.heads = OrderedSums(
            owned_heads(potential, groups), world, bytes_per_bucket=bytes_per_bucket
        )
        sizes = [_padded_bytes(p, shard_ranks) for p in potential.backbone.parameters()]
        self._bytes_of_backbone = sum(sizes)
        self.backbone = _divide(potential.backbone, _mesh(world, shard_ranks))
        self._trained = [p for p in potential.backbone.parameters() if p.requires_grad]
        self._backbone_sent = 0

    @property
    def bytes_sent(self) -> int:
        """What this rank has sent for gradients and weights so far, by the formula of the ring."""
        return self.heads.bytes_sent + self._backbone_sent

    @property
    def pieces_of_backbone(self) -> tuple[str, ...]:
        """Names of the pieces."""
        return tuple(f"backbone, piece {n} of {self.shard_ranks}" for n in range(self.shard_ranks))

    @property
    def piece(self) -> int:
        """Number of the one on this rank."""
        return self.world.rank % self.shard_ranks

    def begin(self, heads: Collection[str]) -> None:
        """Set every gradient to zero and begin to gather the backbone."""
        for parameter in self._trained:
            parameter.grad = None
        self._gather()
        self.heads.begin()
        self.heads.close([head for head in self.groups if head not in heads])

    def backward(
        self,
        loss: Tensor,
        head: str,
        *,
        last_of_head: bool,
        last: bool,  # noqa: ARG002 (the backbone is sent once all ranks are done)
    ) -> None:
        """Add the gradient of a part of a head's loss; send what is complete of heads."""
        completes = [head] if last_of_head else []
        self.heads.expect_last(completes)
        loss.backward()
        self.heads.close(completes)

    def finish(self) -> None:
        """Wait for the heads, then sum the backbone and keep this rank's piece."""
        self.heads.finish()
        if self._trained:
            self._sum_backbone()
        self.backbone.reshard()

    def squared_norms(self) -> dict[str, Tensor]:
        """Heads count on their first owner, each piece of the backbone on one rank."""
        found = head_norms(self.potential, self.groups, self.world)
        if self.world.rank < self.shard_ranks:
            found[BACKBONE] = squared_norm(self.potential.backbone.parameters())
        return found

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Hold the whole backbone; ranks may compute different numbers of batches."""
        self._gather()
        try:
            yield
        finally:
            self.backbone.reshard()

    def _gather(self) -> None:
        with self.world.pulse.doing("gathering the backbone", waits=True):
            self.backbone.unshard()
        self._backbone_sent += self._share_of_ring(self.shard_ranks)

    def _sum_backbone(self) -> None:
        for parameter in self.potential.backbone.parameters():
            if parameter.grad is None:  # every rank must send the same weights
                parameter.grad = torch.zeros_like(parameter)
        self.backbone.set_requires_gradient_sync(True)
        nothing = _no_atoms(self.potential.cutoff).to(self.world.device)
        vectors = torch.zeros(0, 3, dtype=torch.float64, device=self.world.device)
        self.potential.backbone(nothing, vectors.requires_grad_()).sum().backward()
        self.backbone.set_requires_gradient_sync(False)
        n_groups = self.world.size // self.shard_ranks
        self._backbone_sent += self._share_of_ring(self.shard_ranks)
        self._backbone_sent += 2 * self._share_of_ring(n_groups) // self.shard_ranks

    def _share_of_ring(self, n_ranks: int) -> int:
        return round((n_ranks - 1) / n_ranks * self._bytes_of_backbone)


def _divide(backbone: nn.Module, mesh: DeviceMesh) -> FSDPModule:
    """Put this rank's piece of each weight in the place of the weight."""
    n_ranks = mesh.size(-1)
    divided = fully_shard(
        backbone,
        mesh=mesh,
        reshard_after_forward=False,
        shard_placement_fn=lambda weight: Shard(_divided_dimension(weight, n_ranks)),
    )
    divided.set_reshard_after_backward(False)
    divided.set_requires_gradient_sync(False)
    divided.set_gradient_divide_factor(1.0)  # sums, not averages
    divided.set_force_sum_reduction_for_comms(True)
    if mesh.device_type == "cpu":
        divided.set_custom_reduce_scatter(DealAndSum())  # pyright: ignore[reportArgumentType]
    return divided


def _mesh(world: World, shard_ranks: int) -> DeviceMesh:
    kind = world.device.type
    if shard_ranks == world.size:
        return init_device_mesh(kind, (world.size,))
    shape = (world.size // shard_ranks, shard_ranks)
    return init_device_mesh(kind, shape, mesh_dim_names=("repeated", "divided"))


def _no_atoms(cutoff: float) -> AtomicGraph:
    return build_graph(
        np.zeros(0, dtype=np.int64),
        np.zeros((0, 3)),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
        cutoff=cutoff,
    )


def _divided_dimension(weight: Tensor, n_ranks: int) -> int:
    """The first dimension that divides evenly, or else the first one, which need not."""
    even = [dimension for dimension, size in enumerate(weight.shape) if size % n_ranks == 0]
    return even[0] if even else 0


def _padded_bytes(weight: Tensor, n_ranks: int) -> int:
    """What all ranks' pieces take in a message: each as much as the largest."""
    size = weight.shape[_divided_dimension(weight, n_ranks)]
    return weight.numel() // size * -(-size // n_ranks) * n_ranks * weight.element_size()
