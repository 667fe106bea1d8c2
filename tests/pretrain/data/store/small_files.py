"""Small files in published layouts, written with the libraries that wrote the published ones."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

HARTREE = 27.211386024367243
"""eV, CODATA 2014, as ASE has it."""


def write_ani1x(
    path: Path, *, n_frames: int = 20, formulas: Sequence[str] = ("C1H4", "H2O1", "H3N1")
) -> Path:
    """A file in the layout of ANI-1x: harmonic molecules, so that energy and forces agree."""
    generator = np.random.default_rng(7)
    with h5py.File(path, "w") as file:
        for formula in formulas:
            write_formula(file, formula, generator.normal(0.0, 0.03, (n_frames, 5, 3)))
    return path


def write_formula(file: h5py.File, formula: str, motions: np.ndarray) -> None:
    """One group of a file like that of ANI-1x."""
    numbers, rest = MOLECULES[formula]
    moved = motions[:, : len(numbers)] - motions[:, : len(numbers)].mean(axis=1, keepdims=True)
    group = file.create_group(formula)
    group["atomic_numbers"] = np.array(numbers, dtype=np.uint8)
    group["coordinates"] = np.array(rest) + moved
    group["wb97x_dz.energy"] = ENERGIES[formula] + 0.5 * STIFFNESS * (moved**2).sum(axis=(1, 2))
    group["wb97x_dz.forces"] = -STIFFNESS * moved


STIFFNESS = 0.7
"""Hartree/Å^2"""
MOLECULES = {
    "C1H4": (
        [6, 1, 1, 1, 1],
        [
            [0, 0, 0],
            [0.63, 0.63, 0.63],
            [-0.63, -0.63, 0.63],
            [-0.63, 0.63, -0.63],
            [0.63, -0.63, -0.63],
        ],
    ),
    "H2O1": ([8, 1, 1], [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]),
    "H3N1": ([7, 1, 1, 1], [[0, 0, 0], [0.94, 0, 0.38], [-0.47, 0.81, 0.38], [-0.47, -0.81, 0.38]]),
    "C2H2": ([6, 6, 1, 1], [[0, 0, 0.6], [0, 0, -0.6], [0, 0, 1.66], [0, 0, -1.66]]),
}
ENERGIES = {"C1H4": -40.5, "H2O1": -76.4, "H3N1": -56.5, "C2H2": -77.3}
"""Hartree"""


def write_crystals(path: Path, *, n_frames: int = 12, seed: int = 3) -> Path:
    """Extended XYZ of small periodic cells with all labels; `mat` is the material."""
    generator = np.random.default_rng(seed)
    frames = [
        labelled(
            Atoms(
                symbols=symbols,
                positions=np.diag([0, 2])[:, [1, 1, 1]] + generator.normal(0, 0.05, (2, 3)),
                cell=np.eye(3) * 4,
                pbc=True,
                info={"mat": symbols},
            ),
            generator,
        )
        for symbols in ("NaCl", "KBr", "NaBr", "KCl")
        for _ in range(n_frames)
    ]
    write(path, frames, format="extxyz")
    return path


def read_frames(path: Path) -> list[Atoms]:
    frames = read(path, ":")
    assert isinstance(frames, list)
    return frames


def labelled(atoms: Atoms, generator: np.random.Generator) -> Atoms:
    forces = generator.normal(0, 1, (len(atoms), 3))
    stress = generator.normal(0, 0.01, 6)
    atoms.calc = SinglePointCalculator(
        atoms, energy=generator.normal(), forces=forces - forces.mean(axis=0), stress=stress
    )
    return atoms
