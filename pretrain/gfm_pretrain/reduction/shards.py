"""A weight that is whole on every rank, or in pieces on several: read and written alike.

A weight, its gradient, its average and its moments are plain tensors, or DTensors of which each
rank holds a piece. What is saved, hashed or published is whole, so that it does not depend on how
many ranks there were.
"""

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor. Call on every rank, for the same tensors in the same order."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def is_divided(tensor: Tensor) -> bool:
    """Whether each rank holds a piece only."""
    return isinstance(tensor, DTensor)


def piece(tensor: Tensor) -> Tensor:
    """What is on this rank, sharing memory with `tensor`."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def divided_like(tensor: Tensor, full: Tensor) -> Tensor:
    """What this rank holds of `full`, which every rank passes whole, divided as `tensor` is.

    Nothing is sent.
    """
    full = full.to(device=tensor.device, dtype=tensor.dtype)
    if not isinstance(tensor, DTensor):
        return full
    mesh, placements = tensor.device_mesh, tensor.placements
    return distribute_tensor(full, mesh, placements, src_data_rank=None)


@torch.no_grad()
def copy_whole(target: Tensor, full: Tensor) -> None:
    """Set `target` to `full`, which every rank passes whole. Nothing is sent."""
    piece(target).copy_(piece(divided_like(target, full)))
