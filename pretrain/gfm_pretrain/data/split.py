"""The structures of one file, an index of what they cost and have, and batches made of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from gfm_models.graph import AtomicGraph, batch_graphs, build_graph
from gfm_models.loss import Labels
from gfm_models.neighbors import neighbor_list
from jaxtyping import Float, Int

from gfm_pretrain.data.structure import LabelledStructure

COST_OF_ATOM = 4.0
"""Cost of an atom in edges: node products against one neighbour. A rough figure;
`python benchmarks/training_step.py` measures it, see benchmarks/RESULTS.md."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Index:
    """What every rank knows of every structure of a file, also of those it does not hold."""

    n_atoms: Int[np.ndarray, " structures"]
    """Number of atoms."""

    n_edges: Int[np.ndarray, " structures"]
    """Number of directed edges inside the cutoff."""

    labelled: Int[np.ndarray, "structures 3"]
    """Labelled items: energies (0 or 1), atoms with forces, stresses (0 or 1)."""

    def __len__(self) -> int:
        return len(self.n_atoms)

    @cached_property
    def costs(self) -> Float[np.ndarray, " structures"]:
        """Cost of a training step with each structure, in edges."""
        return COST_OF_ATOM * self.n_atoms + self.n_edges


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The structures of one file, as held by a rank."""

    structures: Sequence[LabelledStructure]
    index: Index


def build_split(structures: Sequence[LabelledStructure], *, cutoff: float) -> Split:
    """Count atoms, edges and labels of every structure.

    Raises:
        ValueError: two atoms at one position; the error names the structure.
    """
    return Split(
        structures=structures,
        index=Index(
            n_atoms=np.array([s.n_atoms for s in structures]),
            n_edges=np.array([_count_edges(s, cutoff) for s in structures]),
            labelled=np.array([_labelled(s) for s in structures]),
        ),
    )


def part_of(split: Split, rank: int, n_ranks: int) -> Split:
    """Every n-th structure: the share of one of several ranks."""
    index = split.index
    return Split(
        structures=split.structures[rank::n_ranks],
        index=Index(
            n_atoms=index.n_atoms[rank::n_ranks],
            n_edges=index.n_edges[rank::n_ranks],
            labelled=index.labelled[rank::n_ranks],
        ),
    )


def build_batch(
    structures: Sequence[LabelledStructure], *, cutoff: float, device: torch.device
) -> tuple[AtomicGraph, Labels]:
    """The graph and the labels of some structures, on a device."""
    graph = batch_graphs(
        [
            build_graph(s.atomic_numbers, s.positions, cell=s.cell, pbc=s.pbc, cutoff=cutoff)
            for s in structures
        ]
    )
    labels = Labels(
        energy=torch.from_numpy(np.stack([_or_nan(s.energy, ()) for s in structures])),
        forces=torch.from_numpy(
            np.concatenate([_or_nan(s.forces, (s.n_atoms, 3)) for s in structures])
        ),
        stress=torch.from_numpy(np.stack([_or_nan(s.stress, (3, 3)) for s in structures])),
    )
    return graph.to(device), Labels(
        energy=labels.energy.to(device),
        forces=labels.forces.to(device),
        stress=labels.stress.to(device),
    )


def _count_edges(structure: LabelledStructure, cutoff: float) -> int:
    try:
        edge_index, _ = neighbor_list(
            structure.positions, cell=structure.cell, pbc=structure.pbc, cutoff=cutoff
        )
    except ValueError as error:
        raise ValueError(f"{structure.identifier}: {error}") from error
    return edge_index.shape[1]


def _labelled(structure: LabelledStructure) -> tuple[int, int, int]:
    return (
        int(structure.energy is not None),
        structure.n_atoms if structure.forces is not None else 0,
        int(structure.stress is not None),
    )


def _or_nan(label: float | np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, np.nan) if label is None else np.asarray(label, dtype=np.float64)
