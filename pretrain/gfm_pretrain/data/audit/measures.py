"""What is measured of each structure at import: its edges, distances, forces and geometry."""

import hashlib
from dataclasses import dataclass

import numpy as np
from gfm_models.neighbors import neighbor_list
from jaxtyping import Int64

from gfm_pretrain.data.structure import LabelledStructure

EDGE_RADII = (3.0, 4.0, 5.0, 6.0)
"""Å; edges are counted inside each of them."""
BINS_PER_ANGSTROM = 10
"""Of the histogram of distances, which ends at the largest radius."""
SAME_GEOMETRY = 1e-4
"""Å; to what coordinates are rounded before they are compared."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measures:
    """What one pass over the neighbours and the forces of a structure tells."""

    n_edges: tuple[int, ...]
    """Directed edges shorter than each of `EDGE_RADII`."""
    distance_counts: Int64[np.ndarray, " bins"]
    """Directed edges in each bin of their length."""
    shortest_distance: float
    """Å; infinite where no two atoms are neighbours."""
    net_force: float
    """eV/Å; length of the sum of the forces, 0 where there are none."""
    largest_force: float
    """eV/Å; length of the largest force, 0 where there are none."""


def measure(structure: LabelledStructure) -> Measures:
    """Measure a structure.

    Raises:
        ValueError: two atoms at one position, or periodic directions without cell vectors.
    """
    positions, cell = structure.positions, structure.cell
    edge_index, shifts = neighbor_list(
        positions, cell=cell, pbc=structure.pbc, cutoff=EDGE_RADII[-1]
    )
    vectors = positions[edge_index[1]] - positions[edge_index[0]] + shifts @ cell
    distances = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    forces = np.zeros((1, 3)) if structure.forces is None else structure.forces
    n_bins = round(EDGE_RADII[-1] * BINS_PER_ANGSTROM)
    bins = np.minimum((distances * BINS_PER_ANGSTROM).astype(np.int64), n_bins - 1)
    inner = [int(np.count_nonzero(distances < radius)) for radius in EDGE_RADII[:-1]]
    return Measures(
        n_edges=(*inner, len(distances)),
        distance_counts=np.bincount(bins, minlength=n_bins),
        shortest_distance=float(distances.min(initial=np.inf)),
        net_force=float(np.linalg.norm(forces.sum(axis=0))),
        largest_force=float(np.sqrt((forces**2).sum(axis=1).max())),
    )


def fingerprint(structure: LabelledStructure) -> int:
    """64 bits that are the same for the same geometry, wherever it lies in space.

    Elements, periodicity, cell and positions relative to the first atom count, the latter two to
    1e-4 Å; labels do not, so two energies of one geometry are seen. Rotated copies, atoms in
    another order or wrapped into the cell differently are not recognised.
    """
    lengths = np.concatenate([structure.cell, structure.positions - structure.positions[0]])
    content = hashlib.blake2b(digest_size=8)
    content.update(structure.atomic_numbers.tobytes())
    content.update(structure.pbc.tobytes())
    content.update(np.rint(lengths / SAME_GEOMETRY).astype(np.int64).tobytes())
    return int.from_bytes(content.digest(), "little")
