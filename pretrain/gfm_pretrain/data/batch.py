"""From structures to what the network takes: a graph and its labels."""

from dataclasses import fields, replace
from typing import TypeVar

import torch
from gfm_models.graph import AtomicGraph, build_graphs
from gfm_models.loss import Labels

from gfm_pretrain.data.structure_set import Columns

OnDevice = TypeVar("OnDevice", AtomicGraph, Labels)


def build_batch(
    columns: Columns, *, cutoff: float, device: torch.device
) -> tuple[AtomicGraph, Labels]:
    """The graph and the labels of some structures, on a device.

    Args:
        columns: At least one structure; its arrays are not copied where the device is the CPU.
        cutoff: Å.
        device: Where to put them.
    """
    graph = build_graphs(
        columns.atomic_numbers,
        columns.positions,
        n_atoms=columns.n_atoms,
        cell=columns.cell,
        pbc=columns.pbc,
        cutoff=cutoff,
    )
    labels = Labels(
        energy=torch.from_numpy(columns.energy),
        forces=torch.from_numpy(columns.forces),
        stress=torch.from_numpy(columns.stress),
    )
    return _on(device, graph), _on(device, labels)


def _on(device: torch.device, batch: OnDevice) -> OnDevice:
    """The same tensors on the device.

    To an accelerator they go through pinned memory, without waiting: the copy stands in the same
    queue as the computation that needs it, and torch keeps the pinned memory until it is done.
    """
    if device.type == "cpu":
        return batch
    tensors = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(
        batch,
        **{
            name: tensor.pin_memory().to(device, non_blocking=True)
            for name, tensor in tensors.items()
        },
    )
