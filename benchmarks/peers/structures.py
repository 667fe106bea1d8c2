"""What is timed: the same structures for every model, made or read in every environment alike."""

import gzip
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols
from ase.io import iread
from ase.neighborlist import neighbor_list

MOLECULES = Path(__file__).parents[2] / "data" / "rmd17" / "train.extxyz.gz"
ASPIRIN_ATOMS = 21
SPACING = 3.104
"""Å between water molecules at 1 g/cm³."""
DISPLACEMENT = 0.02
"""Å; how far atoms are from where they were made, anew at every call."""

UNIVERSAL = [s for z, s in enumerate(chemical_symbols[:95]) if z > 0 and not 84 <= z <= 88]
"""The 89 elements of the Materials Project, which the published universal models know."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What a model is told of its training data before it starts."""

    reference_energies: dict[str, float]
    """Of every element it shall know, by chemical symbol in eV."""
    force_rms: float
    """Root mean square of the components of forces in eV/Å."""
    mean_neighbors: float
    """Neighbours of an atom within the model's cutoff, on average."""


def universal_statistics() -> Statistics:
    """Of a model of 89 elements with random weights; the numbers do not matter for speed."""
    return Statistics(
        reference_energies=dict.fromkeys(UNIVERSAL, 0.0), force_rms=1.0, mean_neighbors=60.0
    )


def statistics_of(structures: Sequence[Atoms], *, cutoff: float) -> Statistics:
    """Of labelled structures; reference energies by least squares (smallest norm).

    Args:
        structures: With energies and forces.
        cutoff: Å.
    """
    symbols = sorted({symbol for atoms in structures for symbol in atoms.symbols})
    counts = [[list(atoms.symbols).count(symbol) for symbol in symbols] for atoms in structures]
    energies = [atoms.get_potential_energy() for atoms in structures]
    shifts = np.linalg.lstsq(np.array(counts, dtype=float), np.array(energies))[0]
    forces = np.concatenate([atoms.get_forces() for atoms in structures])
    n_edges = sum(len(neighbor_list("i", atoms, cutoff)) for atoms in structures)
    return Statistics(
        reference_energies=dict(zip(symbols, shifts.tolist(), strict=True)),
        force_rms=float(np.sqrt(np.mean(forces**2))),
        mean_neighbors=n_edges / len(forces),
    )


def water(n_side: int) -> Atoms:
    """A periodic box of `n_side`³ molecules, turned at random."""
    generator = np.random.default_rng(0)
    box = Atoms(cell=np.full(3, n_side * SPACING), pbc=True)
    for place in np.ndindex(n_side, n_side, n_side):
        turned = molecule("H2O")
        turned.rotate(360 * generator.random(), generator.normal(size=3))
        turned.translate(SPACING * (np.array(place) + 0.5))
        box += turned
    return box


def aspirin(n: int) -> list[Atoms]:
    """The first `n` aspirin molecules of the sample of rMD17, with labels."""
    text = gzip.decompress(MOLECULES.read_bytes()).decode()
    frames = iread(io.StringIO(text), format="extxyz")
    return list(islice((atoms for atoms in frames if len(atoms) == ASPIRIN_ATOMS), n))


def copper(n: int) -> list[Atoms]:
    """`n` boxes of 32 atoms, each moved by about 0.1 Å, with the labels of ASE's EMT."""
    boxes = []
    for seed in range(n):
        atoms = bulk("Cu", cubic=True) * (2, 2, 2)
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        boxes.append(atoms)
    return boxes


SYSTEMS: dict[str, Callable[[], Atoms]] = {
    "aspirin": lambda: aspirin(1)[0],
    "Cu 108": lambda: bulk("Cu", cubic=True) * (3, 3, 3),
    "64 H2O": lambda: water(4),
    "Si 1000": lambda: bulk("Si", cubic=True) * (5, 5, 5),
}
"""For energies, forces and, where there is a cell, stress."""

BATCHES: dict[str, Callable[[], list[Atoms]]] = {
    "8 aspirin": lambda: aspirin(8),
    "4 Cu 32": lambda: copper(4),
}
"""For a training step."""


def system(name: str) -> Atoms:
    """One of `SYSTEMS`."""
    return SYSTEMS[name]()


class Moving:
    """A structure whose atoms are somewhere else at every call, near where they were made."""

    def __init__(self, atoms: Atoms) -> None:
        self.atoms = Atoms(
            numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc
        )
        self._origin = atoms.positions.copy()
        self._generator = np.random.default_rng(0)

    def move(self) -> Atoms:
        """Displace every atom anew."""
        away = self._generator.normal(0.0, DISPLACEMENT, self._origin.shape)
        self.atoms.positions = self._origin + away
        return self.atoms
