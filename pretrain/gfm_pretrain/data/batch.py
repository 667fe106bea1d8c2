"""From structures to what the network takes: a graph and its labels."""

import numpy as np
import torch
from gfm_models.graph import AtomicGraph, batch_graphs, build_graph
from gfm_models.loss import Labels

from gfm_pretrain.data.structure_set import Columns


def build_batch(
    columns: Columns, *, cutoff: float, device: torch.device
) -> tuple[AtomicGraph, Labels]:
    """The graph and the labels of some structures, on a device.

    Args:
        columns: At least one structure; its arrays are not copied where the device is the CPU.
        cutoff: Å.
        device: Where to put them.
    """
    ends = np.cumsum(columns.n_atoms)
    graphs = [
        build_graph(
            columns.atomic_numbers[start:end],
            columns.positions[start:end],
            cell=cell,
            pbc=pbc,
            cutoff=cutoff,
        )
        for start, end, cell, pbc in zip(
            ends - columns.n_atoms, ends, columns.cell, columns.pbc, strict=True
        )
    ]
    labels = Labels(
        energy=torch.from_numpy(columns.energy).to(device),
        forces=torch.from_numpy(columns.forces).to(device),
        stress=torch.from_numpy(columns.stress).to(device),
    )
    return batch_graphs(graphs).to(device), labels
