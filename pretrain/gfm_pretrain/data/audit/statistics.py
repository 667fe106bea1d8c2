"""What the structures of a data set are like: how many, of what, how large, how strained."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from gfm_pretrain.data.audit.bins import Bins, Extent
from gfm_pretrain.data.audit.measures import BINS_PER_ANGSTROM, EDGE_RADII, Measures
from gfm_pretrain.data.structure import LARGEST_ATOMIC_NUMBER, LabelledStructure

DISTANCE_BINS = Bins(start=0, stop=EDGE_RADII[-1], number=round(EDGE_RADII[-1] * BINS_PER_ANGSTROM))
"""Å."""
FORCE_BINS = Bins(start=-5, stop=3, number=80, logarithmic=True)
"""eV/Å."""
ENERGY_BINS = Bins(start=-20, stop=20, number=8000)
"""eV per atom."""
VOLUME_BINS = Bins(start=0, stop=4, number=80, logarithmic=True)
"""Å^3 per atom."""
N_ELEMENTS = LARGEST_ATOMIC_NUMBER + 1
"""Rows of counts by atomic number."""


def _zeros(length: int) -> Callable[[], Int64[np.ndarray, " length"]]:
    return partial(np.zeros, length, dtype=np.int64)


@dataclass(eq=False, kw_only=True)
class Statistics:
    """Counts, histograms and extents of the structures that were taken in.

    Those of several processes merge in any order: counts exactly, sums to rounding.
    """

    n_structures: int = 0
    """Number of structures."""
    n_atoms: int = 0
    """Atoms of all of them."""
    n_energies: int = 0
    """Structures that have an energy."""
    n_forces: int = 0
    """Structures that have forces."""
    n_stresses: int = 0
    """Structures that have a stress."""
    periodic: Int64[np.ndarray, "4"] = field(default_factory=_zeros(4))
    """Structures that repeat in 0, 1, 2 and 3 directions."""
    structures_with: Int64[np.ndarray, "119"] = field(default_factory=_zeros(N_ELEMENTS))
    """Structures that have an element, by atomic number."""
    atoms_of: Int64[np.ndarray, "119"] = field(default_factory=_zeros(N_ELEMENTS))
    """Atoms of an element, by atomic number."""
    distances: Int64[np.ndarray, " bins"] = field(default_factory=_zeros(DISTANCE_BINS.number))
    """Directed pairs of atoms by distance."""
    force_sizes: Int64[np.ndarray, " bins"] = field(default_factory=_zeros(FORCE_BINS.number))
    """Atoms by length of the force."""
    volumes: Int64[np.ndarray, " bins"] = field(default_factory=_zeros(VOLUME_BINS.number))
    """Structures that repeat in three directions by volume per atom."""
    interactions: Int64[np.ndarray, " bins"] = field(default_factory=_zeros(ENERGY_BINS.number))
    """Structures by energy per atom without E0."""
    sizes: dict[int, int] = field(default_factory=dict)
    """Structures by number of atoms."""
    reference: dict[int, float] = field(default_factory=dict)
    """E0 in eV, by atomic number."""
    energy: Extent = field(default_factory=Extent)
    """Energy per atom, eV."""
    interaction: Extent = field(default_factory=Extent)
    """The same without E0."""
    force: Extent = field(default_factory=Extent)
    """Length of the force on an atom, eV/Å."""
    pressure: Extent = field(default_factory=Extent)
    """A third of the trace of minus the stress, eV/Å^3."""
    shortest: Extent = field(default_factory=Extent)
    """Shortest distance in a structure, Å, of those in which atoms are neighbours."""
    volume: Extent = field(default_factory=Extent)
    """Volume per atom where a structure repeats in three directions, Å^3."""

    def add(self, structure: LabelledStructure, measures: Measures) -> None:
        """Take in one structure."""
        n_atoms = structure.n_atoms
        self.n_structures += 1
        self.n_atoms += n_atoms
        self.sizes[n_atoms] = self.sizes.get(n_atoms, 0) + 1
        counts = np.bincount(structure.atomic_numbers, minlength=N_ELEMENTS)
        self.atoms_of += counts
        self.structures_with += counts > 0
        self._add_geometry(structure, measures)
        self._add_labels(structure)

    def add_energies(
        self, energies: Float[np.ndarray, " structures"], reference: Mapping[int, float]
    ) -> None:
        """Take in energies per atom without E0 (eV, NaN for none), and E0 (eV) by number."""
        known = energies[np.isfinite(energies)]
        self.interactions += ENERGY_BINS.count(known)
        self.interaction.add(known)
        self.reference |= {int(number): float(energy) for number, energy in reference.items()}

    def merge(self, other: "Statistics") -> None:
        """Take in what another process has seen."""
        for part in fields(self):
            mine, its = getattr(self, part.name), getattr(other, part.name)
            if isinstance(mine, Extent):
                mine.merge(its)
            elif part.name == "sizes":
                self.sizes = {n: mine.get(n, 0) + its.get(n, 0) for n in sorted({*mine, *its})}
            elif part.name == "reference":
                self.reference = {**mine, **its}
            else:
                setattr(self, part.name, mine + its)

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {part.name: _plain(getattr(self, part.name)) for part in fields(self)}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "Statistics":
        """From what `to_mapping` gave."""
        empty = cls()
        return cls(**{name: _like(getattr(empty, name), v) for name, v in mapping.items()})

    def _add_geometry(self, structure: LabelledStructure, measures: Measures) -> None:
        self.periodic[np.count_nonzero(structure.pbc)] += 1
        self.distances += measures.distance_counts
        if np.isfinite(measures.shortest_distance):
            self.shortest.add(np.array([measures.shortest_distance]))
        if structure.pbc.all():
            volume = np.array([abs(np.linalg.det(structure.cell)) / structure.n_atoms])
            self.volumes += VOLUME_BINS.count(volume)
            self.volume.add(volume)

    def _add_labels(self, structure: LabelledStructure) -> None:
        if structure.energy is not None:
            self.n_energies += 1
            self.energy.add(np.array([structure.energy / structure.n_atoms]))
        if structure.forces is not None:
            self.n_forces += 1
            sizes = np.sqrt((structure.forces**2).sum(axis=1))
            self.force_sizes += FORCE_BINS.count(sizes)
            self.force.add(sizes)
        if structure.stress is not None:
            self.n_stresses += 1
            self.pressure.add(np.array([-np.trace(structure.stress) / 3]))


def _plain(value: Any) -> Any:
    if isinstance(value, Extent):
        return value.to_list()
    if isinstance(value, np.ndarray):
        return {str(place): int(value[place]) for place in np.flatnonzero(value)}
    if isinstance(value, dict):
        return {str(key): value[key] for key in sorted(value)}
    return value


def _like(empty: Any, value: Any) -> Any:
    """Plain values as the type that an empty field has."""
    if isinstance(empty, Extent):
        return Extent(*value)
    if isinstance(empty, np.ndarray):
        counts = np.zeros_like(empty)
        counts[[int(place) for place in value]] = list(value.values())
        return counts
    if isinstance(empty, dict):
        return {int(key): item for key, item in value.items()}
    return value
