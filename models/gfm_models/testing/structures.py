"""Structures that checks are made on, of the elements a head knows."""

from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers as number_of
from ase.data import covalent_radii

from gfm_models.graph import AtomicGraph, build_graph
from gfm_models.potential import MultiHeadPotential

FAR = 30.0
"""Å; farther than anything interacts."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """Plain arrays of a structure, to be moved about before a graph is made of it."""

    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray

    def graph(self, cutoff: float) -> AtomicGraph:
        """Graph with edges up to `cutoff` Å."""
        return build_graph(
            self.numbers, self.positions, cell=self.cell, pbc=self.pbc, cutoff=cutoff
        )

    def moved(self, positions: np.ndarray, cell: np.ndarray | None = None) -> "Structure":
        """The same atoms elsewhere."""
        return Structure(
            numbers=self.numbers,
            positions=positions,
            cell=self.cell if cell is None else cell,
            pbc=self.pbc,
        )


def molecule(potential: MultiHeadPotential, head: str, *, n_atoms: int = 8) -> Structure:
    """A random cluster without close contacts."""
    numbers = _species(potential, head, n_atoms)
    return Structure(
        numbers=numbers,
        positions=_spread_points(numbers, np.random.default_rng(1)),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
    )


def crystal(potential: MultiHeadPotential, head: str) -> Structure:
    """A random skewed cell, smaller than the cutoff in every direction."""
    numbers = _species(potential, head, 2)
    edge = 1.3 * 2 * covalent_radii[numbers].max()
    cell = edge * np.array([[1.0, 0.1, 0.0], [0.3, 1.1, 0.2], [0.1, 0.2, 0.9]])
    positions = np.array([[0.02, 0.01, 0.03], [0.45, 0.52, 0.55]]) @ cell
    return Structure(numbers=numbers, positions=positions, cell=cell, pbc=np.ones(3, dtype=bool))


def single_atom(potential: MultiHeadPotential, head: str, symbol: str | None = None) -> Structure:
    """Of an element, or of the first that the head knows."""
    number = number_of[symbol or potential.head(head).config.elements[0]]
    return Structure(
        numbers=np.array([number]),
        positions=np.array([[1.0, 2.0, 3.0]]),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
    )


def pair(symbol: str, distance: float) -> Structure:
    """Two atoms of an element, so many Å apart."""
    return Structure(
        numbers=np.full(2, number_of[symbol]),
        positions=np.array([[0.0, 0.0, 0.0], [distance, 0.0, 0.0]]),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
    )


def _species(potential: MultiHeadPotential, head: str, n_atoms: int) -> np.ndarray:
    known = [number_of[symbol] for symbol in potential.head(head).config.elements]
    return np.resize(np.array(known), n_atoms)


def _spread_points(numbers: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Random points in a box, no two atoms closer than their covalent radii."""
    edge = 2.5 * covalent_radii[numbers].max() * len(numbers) ** (1 / 3)
    points = np.empty((0, 3))
    while len(points) < len(numbers):
        candidate = generator.uniform(0, edge, 3)
        reach = covalent_radii[numbers[len(points)]] + covalent_radii[numbers[: len(points)]]
        if (np.linalg.norm(points - candidate, axis=1) > 0.9 * reach).all():
            points = np.concatenate([points, candidate[None]])
    return points
