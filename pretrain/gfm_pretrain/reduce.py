"""Gradients summed over ranks: the backbone's over all of them, each head's over its owners."""

from collections.abc import Iterable, Mapping

import torch
from gfm_models.potential import MultiHeadPotential
from torch import Tensor, nn

from gfm_pretrain.process import Group, World, all_reduce_sum


def reduce_gradients(
    potential: MultiHeadPotential, groups: Mapping[str, Group], world: World
) -> None:
    """Replace every gradient by its sum over the ranks that hold the weight. Call on every rank.

    The losses carry the global denominators, so that sums, never averages, give the gradient of
    one process. A weight that a rank did not use adds zero. Heads go in the order of `groups`,
    the same on every rank; then the backbone.

    Args:
        potential: This rank's: the backbone and the heads it owns.
        groups: Owners of every head of the run.
        world: All ranks.
    """
    for name, group in groups.items():
        if name in potential.heads:
            _sum_gradients(potential.head(name).parameters(), world, group)
    _sum_gradients(potential.backbone.parameters(), world, None)


def gradient_norm(
    potential: MultiHeadPotential, groups: Mapping[str, Group], world: World
) -> float:
    """Norm of the gradient of the whole model, the backbone and each head counted once.

    Call on every rank, after `reduce_gradients`. It is the same on every rank to the last bit, also
    where ranks sum in another order because they have more threads: replicas stay equal.
    """
    own = [
        _sum_of_squares(potential.head(name))
        for name, group in groups.items()
        if group.ranks[0] == world.rank
    ]
    backbone = _sum_of_squares(potential.backbone)
    if world.rank > 0:
        backbone.zero_()
    return all_reduce_sum(world, torch.stack([backbone, *own]).sum()).sqrt().item()


def scale_gradients(potential: MultiHeadPotential, factor: float) -> None:
    """Multiply every gradient by the same factor."""
    for parameter in potential.parameters():
        if parameter.grad is not None:
            parameter.grad.mul_(factor)


def _sum_gradients(parameters: Iterable[nn.Parameter], world: World, group: Group | None) -> None:
    trained = [p for p in parameters if p.requires_grad]
    if not trained:
        return
    flat = torch.cat([_gradient(p).flatten() for p in trained])
    all_reduce_sum(world, flat, group)
    for parameter, part in zip(trained, flat.split([p.numel() for p in trained]), strict=True):
        parameter.grad = part.view_as(parameter)


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _sum_of_squares(module: nn.Module) -> Tensor:
    device = next(module.parameters()).device
    squares = [p.grad.double().square().sum() for p in module.parameters() if p.grad is not None]
    return torch.stack([torch.zeros((), dtype=torch.float64, device=device), *squares]).sum()
