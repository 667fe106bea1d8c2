"""The atomic graph: what a network sees of a structure, with every convention stated once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gfm_models.neighbors import neighbor_list

if TYPE_CHECKING:
    from ase import Atoms
    from torch_geometric.data import Data

MAX_ATOMIC_NUMBER = 118

FARTHEST = 1e4
"""Å; positions beyond are a mistake, and lose the precision that distances need."""
FLAT = 1e-9
"""Volume over the product of the lattice vectors' lengths, below which it is rounding noise."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AtomicGraph:
    """One structure, or several side by side (a batch), with the edges inside a cutoff.

    Edges are directed, both directions are present, and they are sorted by receiver.
    """

    atomic_numbers: Int[Tensor, " nodes"]
    """Atomic number of each atom, 1 to 118."""

    positions: Float[Tensor, "nodes 3"]
    """Cartesian positions in Å, float64; they need not lie inside the cell."""

    cell: Float[Tensor, "graphs 3 3"]
    """Rows are the lattice vectors in Å, float64; a row of zeros where there is none."""

    pbc: Bool[Tensor, "graphs 3"]
    """Whether the structure repeats along each lattice vector."""

    edge_index: Int[Tensor, "2 edges"]
    """Row 0: the sender (the neighbour), row 1: the receiver (the centre)."""

    shifts: Int[Tensor, "edges 3"]
    """Whole lattice vectors that belong to an edge; see `edge_vectors`."""

    graph_index: Int[Tensor, " nodes"]
    """Which structure of the batch an atom belongs to."""

    @property
    def n_graphs(self) -> int:
        """Number of structures."""
        return self.cell.shape[0]

    @property
    def n_nodes(self) -> int:
        """Number of atoms."""
        return self.atomic_numbers.shape[0]

    @property
    def n_edges(self) -> int:
        """Number of directed edges."""
        return self.edge_index.shape[1]

    @property
    def senders(self) -> Int[Tensor, " edges"]:
        """The neighbour of each edge."""
        return self.edge_index[0]

    @property
    def receivers(self) -> Int[Tensor, " edges"]:
        """The centre of each edge."""
        return self.edge_index[1]

    @property
    def has_cell(self) -> Bool[Tensor, " graphs"]:
        """Whether all three lattice vectors exist and span a volume: stress is defined."""
        return volumes(self) > 0

    def to(self, device: torch.device | str) -> AtomicGraph:
        """The same graph on another device."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def contiguous(self) -> AtomicGraph:
        """The same graph with every tensor in one piece, which is what compiled code reads."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        if all(tensor.is_contiguous() for tensor in tensors.values()):
            return self
        return replace(self, **{name: tensor.contiguous() for name, tensor in tensors.items()})


def edge_vectors(graph: AtomicGraph) -> Float[Tensor, "edges 3"]:
    """Vectors from sender to receiver in Å: r_receiver - r_sender + shift · cell."""
    cell_of_edge = graph.cell[graph.graph_index[graph.receivers]]
    offset = torch.einsum("ei,eij->ej", graph.shifts.to(cell_of_edge.dtype), cell_of_edge)
    return graph.positions[graph.receivers] - graph.positions[graph.senders] + offset


def volumes(graph: AtomicGraph) -> Float[Tensor, " graphs"]:
    """Cell volumes in Å³; zero where a lattice vector is missing or lies in the others' plane."""
    volume = torch.linalg.det(graph.cell).abs()
    lengths = torch.linalg.vector_norm(graph.cell, dim=-1)
    return torch.where(volume > FLAT * lengths.prod(-1), volume, 0.0)


def n_atoms_of(graph: AtomicGraph) -> Int[Tensor, " graphs"]:
    """Number of atoms of each structure."""
    return torch.bincount(graph.graph_index, minlength=graph.n_graphs)


def build_graph(
    atomic_numbers: Int[np.ndarray, " nodes"],
    positions: Float[np.ndarray, "nodes 3"],
    *,
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, "3"],
    cutoff: float,
) -> AtomicGraph:
    """Graph of one structure with all pairs closer than `cutoff` (Å).

    Raises:
        ValueError: shapes, species or coordinates that no structure can have, two atoms at one
            position, or a periodic direction without a lattice vector.
    """
    numbers = np.array(atomic_numbers, dtype=np.int64)
    cell, pbc = np.array(cell, dtype=np.float64), np.array(pbc, dtype=bool)
    if cell.shape != (3, 3):
        raise ValueError(f"`cell` must have shape [3, 3], got {list(cell.shape)}")
    if pbc.shape != (3,):
        raise ValueError(f"`pbc` must have shape [3], got {list(pbc.shape)}")
    return build_graphs(
        numbers,
        np.array(positions, dtype=np.float64),
        n_atoms=np.array([len(numbers)]),
        cell=cell[None],
        pbc=pbc[None],
        cutoff=cutoff,
    )


def build_graphs(
    atomic_numbers: Int[np.ndarray, " nodes"],
    positions: Float[np.ndarray, "nodes 3"],
    *,
    n_atoms: Int[np.ndarray, " graphs"],
    cell: Float[np.ndarray, "graphs 3 3"],
    pbc: Bool[np.ndarray, "graphs 3"],
    cutoff: float,
) -> AtomicGraph:
    """Graphs of several structures side by side: faster than one by one, and the same.

    Args:
        atomic_numbers: int64, of all structures one after the other; kept, not copied.
        positions: Å, float64, likewise.
        n_atoms: Number of atoms of each structure, at least one structure.
        cell: Å, float64; rows are lattice vectors.
        pbc: Whether a structure repeats along each lattice vector.
        cutoff: Å.

    Raises:
        ValueError: as `build_graph`.
    """
    if not len(n_atoms):
        raise ValueError("a batch needs at least one graph, got none")
    _check_atoms(atomic_numbers, positions, cell)
    starts = np.cumsum(n_atoms) - n_atoms
    found = [
        neighbor_list(positions[start : start + n], cell=box, pbc=repeats, cutoff=cutoff)
        for start, n, box, repeats in zip(starts, n_atoms, cell, pbc, strict=True)
    ]
    edge_index = np.concatenate([edges for edges, _ in found], axis=1)
    edge_index += np.repeat(starts, [edges.shape[1] for edges, _ in found])
    return AtomicGraph(
        atomic_numbers=torch.from_numpy(atomic_numbers),
        positions=torch.from_numpy(positions),
        cell=torch.from_numpy(cell),
        pbc=torch.from_numpy(pbc),
        edge_index=torch.from_numpy(edge_index),
        shifts=torch.from_numpy(np.concatenate([shifts for _, shifts in found])),
        graph_index=torch.from_numpy(np.repeat(np.arange(len(n_atoms)), n_atoms)),
    )


def graph_from_atoms(atoms: Atoms, *, cutoff: float) -> AtomicGraph:
    """Graph of an ASE structure; see `build_graph`."""
    return build_graph(
        atoms.numbers, atoms.positions, cell=atoms.cell.array, pbc=atoms.pbc, cutoff=cutoff
    )


def batch_graphs(graphs: Sequence[AtomicGraph]) -> AtomicGraph:
    """Put graphs side by side; they share no edges.

    Raises:
        ValueError: no graph was given.
    """
    if not graphs:
        raise ValueError("a batch needs at least one graph, got none")
    first_node = np.cumsum([0] + [g.n_nodes for g in graphs])
    first_graph = np.cumsum([0] + [g.n_graphs for g in graphs])
    return AtomicGraph(
        atomic_numbers=torch.cat([g.atomic_numbers for g in graphs]),
        positions=torch.cat([g.positions for g in graphs]),
        cell=torch.cat([g.cell for g in graphs]),
        pbc=torch.cat([g.pbc for g in graphs]),
        edge_index=torch.cat(
            [g.edge_index + int(n) for g, n in zip(graphs, first_node, strict=False)], dim=1
        ),
        shifts=torch.cat([g.shifts for g in graphs]),
        graph_index=torch.cat(
            [g.graph_index + int(n) for g, n in zip(graphs, first_graph, strict=False)]
        ),
    )


def to_torch_geometric(graph: AtomicGraph) -> Data:
    """The same fields as a `torch_geometric.data.Data`, under torch_geometric's names.

    Returns:
        Data with `z`, `pos`, `cell`, `pbc`, `edge_index`, `shifts`, `batch`.
    """
    from torch_geometric.data import Data

    return Data(
        z=graph.atomic_numbers,
        pos=graph.positions,
        cell=graph.cell,
        pbc=graph.pbc,
        edge_index=graph.edge_index,
        shifts=graph.shifts,
        batch=graph.graph_index,
    )


def from_torch_geometric(data: Data) -> AtomicGraph:
    """The graph that `to_torch_geometric` made.

    Raises:
        ValueError: its edges are not sorted by receiver.
    """
    receivers = data.edge_index[1]  # pyright: ignore[reportOptionalSubscript] (untyped)
    if (receivers.diff() < 0).any():
        raise ValueError("edges must be sorted by receiver, row 1 of edge_index; sort them")
    return AtomicGraph(
        atomic_numbers=data.z,  # pyright: ignore[reportArgumentType] (Data's fields are untyped)
        positions=data.pos,  # pyright: ignore[reportArgumentType] (same)
        cell=data.cell,
        pbc=data.pbc,
        edge_index=data.edge_index,  # pyright: ignore[reportArgumentType] (same)
        shifts=data.shifts,
        graph_index=data.batch,  # pyright: ignore[reportArgumentType] (same)
    )


def _check_atoms(numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray) -> None:
    if positions.shape != (len(numbers), 3):
        raise ValueError(
            f"`positions` must have shape [{len(numbers)}, 3], got {list(positions.shape)}"
        )
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise ValueError("`positions` and `cell` must be finite, found NaN or infinity")
    if np.abs(positions).max(initial=0.0) > FARTHEST:
        raise ValueError(
            f"`positions` must lie within {FARTHEST:.0e} Å of the origin, found "
            f"{np.abs(positions).max():.3g} Å; wrap the structure or remove stray atoms"
        )
    outside = numbers[(numbers < 1) | (numbers > MAX_ATOMIC_NUMBER)]
    if len(outside):
        raise ValueError(
            f"atomic numbers must lie in 1 to {MAX_ATOMIC_NUMBER}, found {int(outside[0])}"
        )
