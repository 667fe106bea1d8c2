"""The structures of one split: read by place, at random, whether in memory or mapped from files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from gfm_models.neighbors import neighbor_list
from jaxtyping import Bool, Float64, Int, Int64

from gfm_pretrain.cost import RelativeCost
from gfm_pretrain.data.shard import (
    ENERGY,
    FORCES,
    STRESS,
    VOIGT,
    Shard,
    make_shard,
    ranges,
    starts_of,
)
from gfm_pretrain.data.size_statistics import SizeStatistics, size_statistics
from gfm_pretrain.data.structure import LabelledStructure

Places = Int[np.ndarray, " places"]
"""Numbers of structures in a set, from 0."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """Some structures, copied out of a set: a batch in the making. Absent labels are NaN."""

    n_atoms: Int64[np.ndarray, " structures"]
    """Number of atoms of each structure."""
    atomic_numbers: Int64[np.ndarray, " atoms"]
    """Of all atoms, one structure after the other."""
    positions: Float64[np.ndarray, "atoms 3"]
    """Å."""
    cell: Float64[np.ndarray, "structures 3 3"]
    """Å; rows are lattice vectors."""
    pbc: Bool[np.ndarray, "structures 3"]
    """Whether a structure repeats along each lattice vector."""
    energy: Float64[np.ndarray, " structures"]
    """eV."""
    forces: Float64[np.ndarray, "atoms 3"]
    """eV/Å."""
    stress: Float64[np.ndarray, "structures 3 3"]
    """eV/Å^3, positive = tension."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Index:
    """What it costs to train on each structure and what labels it has, without its atoms."""

    first_atom: tuple[Int64[np.ndarray, " structures_and_1"], ...]
    """As in `Shard`, of each shard."""
    n_edges: tuple[Int[np.ndarray, "structures radii"], ...]
    """As in `Shard`, of each shard."""
    labels: tuple[Int[np.ndarray, " structures"], ...]
    """As in `Shard`, of each shard."""
    radii: tuple[float, ...]
    """Å, ascending; the radii of `n_edges`."""
    cutoff: float
    """Å; of the potential to be trained."""

    def __len__(self) -> int:
        return int(self._starts[-1])

    def n_atoms(self, places: Places) -> Int64[np.ndarray, " places"]:
        """Number of atoms."""
        found = np.empty(len(places), dtype=np.int64)
        for shard, chosen, rows in locate(self._starts, places):
            first = self.first_atom[shard]
            found[chosen] = first[rows + 1] - first[rows]
        return found

    def edges(self, places: Places) -> Int64[np.ndarray, " places"]:
        """Number of directed edges inside the cutoff; see `edges_inside`."""
        found = np.empty(len(places), dtype=np.int64)
        for shard, chosen, rows in locate(self._starts, places):
            found[chosen] = edges_inside(self.cutoff, self.n_edges[shard][rows], self.radii)
        return found

    def costs(self, places: Places, cost: RelativeCost) -> Float64[np.ndarray, " places"]:
        """Cost of a training step with each structure, in edges."""
        return cost.of(self.n_atoms(places), self.edges(places))

    def labelled(self, places: Places) -> Int64[np.ndarray, "places 3"]:
        """Labelled items: energies (0 or 1), atoms with forces, stresses (0 or 1)."""
        bits = np.empty(len(places), dtype=np.int64)
        for shard, chosen, rows in locate(self._starts, places):
            bits[chosen] = self.labels[shard][rows]
        found = (bits[:, None] & np.array([ENERGY, FORCES, STRESS])) > 0
        return found * np.stack([np.ones_like(bits), self.n_atoms(places), np.ones_like(bits)], 1)

    @cached_property
    def statistics(self) -> SizeStatistics:
        """Means and spreads over all structures."""
        runs = np.array_split(np.arange(len(self)), max(1, len(self) // 100_000))
        return size_statistics((self.n_atoms(run), self.edges(run)) for run in runs)

    @cached_property
    def _starts(self) -> Int64[np.ndarray, " shards_and_1"]:
        return starts_of([len(labels) for labels in self.labels])


@dataclass(frozen=True, kw_only=True, eq=False)
class StructureSet:
    """Structures of one or several shards, as one sequence."""

    shards: tuple[Shard, ...]
    """Each with at least one structure."""
    radii: tuple[float, ...]
    """Å, ascending; the radii within which the shards count edges."""

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, places: Places) -> Columns:
        """Copy some structures, in the order of `places`."""
        located = list(locate(self._starts, places))
        columns = _empty_columns(self._n_atoms(located, len(places)))
        ends = np.cumsum(columns.n_atoms)
        for shard, chosen, rows in located:
            _copy(self.shards[shard], rows, columns, chosen, ends)
        return columns

    def structure(self, place: int) -> LabelledStructure:
        """One structure, checked."""
        [(shard, _, rows)] = locate(self._starts, np.array([place]))
        return self.shards[shard].structure(int(rows[0]))

    def structures(self, places: Places | None = None) -> Iterator[LabelledStructure]:
        """Structures one by one: those at `places`, or all."""
        for place in np.arange(len(self)) if places is None else places:
            yield self.structure(int(place))

    def identifier(self, place: int) -> str:
        """What leads back to the record in the source."""
        [(shard, _, rows)] = locate(self._starts, np.array([place]))
        return self.shards[shard].identifier(int(rows[0]))

    def chunks(self, size: int = 8192) -> Iterator[Shard]:
        """All structures in order, at most `size` at a time, without copying."""
        for shard in self.shards:
            yield from shard.chunks(size)

    def index(self, cutoff: float) -> Index:
        """What training needs to know of structures it does not read, for a cutoff in Å."""
        return Index(
            first_atom=tuple(shard.first_atom for shard in self.shards),
            n_edges=tuple(shard.n_edges for shard in self.shards),
            labels=tuple(shard.labels for shard in self.shards),
            radii=self.radii,
            cutoff=cutoff,
        )

    @cached_property
    def _starts(self) -> Int64[np.ndarray, " shards_and_1"]:
        return starts_of([len(shard) for shard in self.shards])

    def _n_atoms(self, located: Sequence, n_places: int) -> Int64[np.ndarray, " places"]:
        n_atoms = np.empty(n_places, dtype=np.int64)
        for shard, chosen, rows in located:
            first = self.shards[shard].first_atom
            n_atoms[chosen] = first[rows + 1] - first[rows]
        return n_atoms


def in_memory(structures: Sequence[LabelledStructure], *, cutoff: float) -> StructureSet:
    """A set of structures that were read from a file, with their edges counted.

    Args:
        structures: At least one.
        cutoff: Å, of the potential.

    Raises:
        ValueError: two atoms at one position; the error names the structure.
    """
    n_edges = np.array([[_count_edges(s, cutoff)] for s in structures], dtype=np.uint32)
    groups = np.zeros(len(structures), dtype=np.uint64)
    shard = make_shard(structures, n_edges=n_edges, groups=groups)
    return StructureSet(shards=(shard,), radii=(cutoff,))


def edges_inside(
    cutoff: float, n_edges: Int[np.ndarray, "structures radii"], radii: Sequence[float]
) -> Int64[np.ndarray, " structures"]:
    """Number of edges inside a cutoff, from those inside some radii.

    Exact where the cutoff is one of the radii. Between two of them the edges are taken to be spread
    evenly over the volume; below the first and beyond the last, as inside that one. That is
    enough: the counts decide who computes what, never what is computed.
    """
    volumes = np.array([0.0, *radii]) ** 3
    counts = np.concatenate([np.zeros((len(n_edges), 1)), n_edges], axis=1)
    if cutoff > radii[-1]:
        return np.rint(counts[:, -1] * cutoff**3 / volumes[-1]).astype(np.int64)
    upper = int(np.searchsorted(volumes, cutoff**3))
    part = (cutoff**3 - volumes[upper - 1]) / (volumes[upper] - volumes[upper - 1])
    inside = counts[:, upper - 1] + part * (counts[:, upper] - counts[:, upper - 1])
    return np.rint(inside).astype(np.int64)


def locate(
    starts: Int64[np.ndarray, " shards_and_1"], places: Places
) -> Iterator[tuple[int, Int64[np.ndarray, " chosen"], Int64[np.ndarray, " chosen"]]]:
    """For each shard that `places` touch: its number, which places it has, and its rows there.

    Raises:
        IndexError: a place is not in the set.
    """
    if len(places) and not (places.min() >= 0 and places.max() < starts[-1]):
        raise IndexError(f"places must lie in 0 … {starts[-1] - 1}, got {places}")
    shards = np.searchsorted(starts, places, side="right") - 1
    for shard in np.unique(shards):
        chosen = np.flatnonzero(shards == shard)
        yield int(shard), chosen, places[chosen] - starts[shard]


def _count_edges(structure: LabelledStructure, cutoff: float) -> int:
    try:
        edge_index, _ = neighbor_list(
            structure.positions, cell=structure.cell, pbc=structure.pbc, cutoff=cutoff
        )
    except ValueError as error:
        raise ValueError(f"{structure.identifier}: {error}") from error
    return edge_index.shape[1]


def _empty_columns(n_atoms: Int64[np.ndarray, " structures"]) -> Columns:
    n, total = len(n_atoms), int(n_atoms.sum())
    return Columns(
        n_atoms=n_atoms,
        atomic_numbers=np.empty(total, dtype=np.int64),
        positions=np.empty((total, 3)),
        cell=np.empty((n, 3, 3)),
        pbc=np.empty((n, 3), dtype=np.bool_),
        energy=np.empty(n),
        forces=np.empty((total, 3)),
        stress=np.empty((n, 3, 3)),
    )


def _copy(
    shard: Shard,
    rows: Int64[np.ndarray, " chosen"],
    columns: Columns,
    chosen: Int64[np.ndarray, " chosen"],
    ends: Int64[np.ndarray, " structures"],
) -> None:
    """Copy rows of a shard to where they belong in `columns`."""
    n_atoms = columns.n_atoms[chosen]
    source = ranges(shard.first_atom[rows], n_atoms)
    target = ranges(ends[chosen] - n_atoms, n_atoms)
    for name in ("atomic_numbers", "positions", "forces"):
        getattr(columns, name)[target] = getattr(shard, name)[source]
    for name in ("cell", "pbc", "energy"):
        getattr(columns, name)[chosen] = getattr(shard, name)[rows]
    columns.stress[chosen] = shard.stress[rows][:, VOIGT]
