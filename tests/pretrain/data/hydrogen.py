"""Structures of hydrogen whose atoms, edges and labels can be counted on the fingers."""

from collections.abc import Sequence

import numpy as np
from gfm_pretrain.data.shard import make_shard
from gfm_pretrain.data.structure import LabelledStructure
from gfm_pretrain.data.structure_set import StructureSet, in_memory

CUTOFF = 2.5
"""Å; N_EDGES are those closer than this."""


def molecule(n_atoms: int, **labels) -> LabelledStructure:
    """Hydrogen atoms in a row, 1 Å apart."""
    return LabelledStructure(
        atomic_numbers=np.ones(n_atoms, dtype=np.int64),
        positions=np.arange(3.0 * n_atoms).reshape(n_atoms, 3) / np.sqrt(27.0),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
        identifier=f"row of {n_atoms}",
        **labels,
    )


def crystal(**labels) -> LabelledStructure:
    """Simple cubic hydrogen, 2 Å."""
    return LabelledStructure(
        atomic_numbers=np.ones(1, dtype=np.int64),
        positions=np.zeros((1, 3)),
        cell=2.0 * np.eye(3),
        pbc=np.ones(3, dtype=bool),
        identifier="cube",
        **labels,
    )


STRESS = np.array([[1.0, 0.4, 0.5], [0.4, 2.0, 0.6], [0.5, 0.6, 3.0]])
STRUCTURES = [
    molecule(3, energy=-1.0, forces=np.arange(9.0).reshape(3, 3)),
    molecule(2, forces=np.zeros((2, 3))),
    crystal(energy=2.0, stress=STRESS),
    molecule(1, energy=0.0),
    molecule(4, energy=-4.0, forces=np.full((4, 3), -0.5)),
]
N_ATOMS = [3, 2, 1, 1, 4]
N_EDGES = [6, 2, 6, 0, 10]
LABELLED = [[1, 3, 0], [0, 2, 0], [1, 0, 1], [1, 0, 0], [1, 4, 0]]


def in_shards(structures: Sequence[LabelledStructure], *sizes: int) -> StructureSet:
    """The same as `in_memory`, in shards of these sizes."""
    whole = in_memory(structures, cutoff=CUTOFF)
    n_edges = whole.shards[0].n_edges
    ends = np.cumsum(sizes)
    shards = tuple(
        make_shard(
            structures[end - size : end],
            n_edges=n_edges[end - size : end],
            groups=np.zeros(size, dtype=np.uint64),
        )
        for size, end in zip(sizes, ends.tolist(), strict=True)
    )
    return StructureSet(shards=shards, radii=(CUTOFF,))
