"""Gradients that lie side by side in memory, so that one message carries many of them."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gfm_pretrain.process import Group, World, start_sum
from gfm_pretrain.reduction.shards import piece


class Bucket:
    """Some weights whose gradients are views of one flat tensor, summed together."""

    def __init__(self, parameters: Sequence[nn.Parameter], group: Group) -> None:
        first = parameters[0]
        self.parameters = list(parameters)
        self.group = group
        self.flat = torch.zeros(
            sum(p.numel() for p in parameters), dtype=first.dtype, device=first.device
        )
        self.n_waiting = 0

    def begin(self) -> None:
        """Set the gradients to zero, as views: autograd then adds to them in place."""
        self.flat.zero_()
        parts = self.flat.split([p.numel() for p in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)
        self.n_waiting = len(self.parameters)

    @property
    def is_ready(self) -> bool:
        """Whether nothing will be added any more on this rank."""
        return self.n_waiting == 0

    @property
    def bytes_of_ring(self) -> int:
        """What a ring of the group's ranks sends from each of them: 2 (n - 1) / n of the whole."""
        n_ranks = len(self.group.ranks)
        return round(2 * (n_ranks - 1) / n_ranks * self.flat.numel() * self.flat.element_size())

    def start_sum(self, world: World):
        """Begin to sum over the group; something to wait for, or None where there is no need."""
        return start_sum(world, self.flat, self.group)


def fill_buckets(
    parameters: Iterable[nn.Parameter], group: Group, *, bytes_per_bucket: int
) -> list[Bucket]:
    """Buckets of at most `bytes_per_bucket`, or of one weight that is larger.

    Weights come from the last to the first, roughly as backward passes reach them. Frozen weights
    are left out; weights of one bucket have one precision.
    """
    buckets: list[Bucket] = []
    filling: list[nn.Parameter] = []
    for parameter in reversed([p for p in parameters if p.requires_grad]):
        if filling and not _fits(parameter, filling, bytes_per_bucket):
            buckets.append(Bucket(filling, group))
            filling = []
        filling.append(parameter)
    if filling:
        buckets.append(Bucket(filling, group))
    return buckets


def squared_norm(parameters: Iterable[nn.Parameter]) -> Float[Tensor, ""]:
    """Sum of squares of the gradients there are on this rank, in double precision."""
    squares = [piece(p.grad).double().square().sum() for p in parameters if p.grad is not None]
    return torch.stack(squares).sum() if squares else torch.zeros((), dtype=torch.float64)


def _fits(parameter: nn.Parameter, filling: Sequence[nn.Parameter], limit: int) -> bool:
    n_bytes = sum(p.numel() for p in (*filling, parameter)) * parameter.element_size()
    return n_bytes <= limit and parameter.dtype == filling[0].dtype
