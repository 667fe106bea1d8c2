"""Structures that the tests of the audit share."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from gfm_pretrain.data.structure import LabelledStructure


def make_structure(positions: Any, **fields: Any) -> LabelledStructure:
    """Hydrogen atoms without forces between them, unless the fields say something else."""
    positions = np.array(positions, dtype=np.float64)
    return LabelledStructure(
        **{
            "atomic_numbers": np.ones(len(positions), dtype=np.int64),
            "positions": positions,
            "cell": np.zeros((3, 3)),
            "pbc": np.zeros(3, dtype=bool),
            "energy": -1.0,
            "forces": np.zeros_like(positions),
            "identifier": "set.xyz:1",
            **fields,
        }
    )


def pair(distance: float = 0.75, **fields: Any) -> LabelledStructure:
    """Two atoms at a distance in Å."""
    return make_structure([[0, 0, 0], [0, 0, distance]], **fields)


def crystal(side: float = 2.0, **fields: Any) -> LabelledStructure:
    """One copper atom in a cube, side in Å."""
    periodic = {"cell": side * np.eye(3), "pbc": np.ones(3, dtype=bool)}
    return make_structure([[0, 0, 0]], atomic_numbers=np.array([29]), **periodic, **fields)


def springs(n: int = 30) -> Iterator[LabelledStructure]:
    """A trajectory of three atoms on springs of 10 eV/Å^2, for which the mean force is exact.

    The energy changes by 0.25 eV from each to the next.
    """
    random = np.random.default_rng(0)
    rest = np.array([[0, 0, 0], [1.5, 0, 0], [0, 1.5, 0]])
    for number in range(n):
        away = random.normal(size=(3, 3))
        away *= (0.2 + 0.1 * (number % 2)) / np.linalg.norm(away)
        energy = 5.0 * float((away**2).sum())
        labels = {"energy": energy, "forces": -10.0 * away}
        yield make_structure(rest + away, identifier=f"springs:{number}", **labels)


def copper(
    n: int = 30, *, rattle: float = 0.02, strain: float = 0.01
) -> Iterator[LabelledStructure]:
    """Copper in cells of several shapes, with the labels of ASE's effective medium theory."""
    random = np.random.default_rng(0)
    for number in range(n):
        atoms = bulk("Cu", "fcc", 3.6, cubic=True)
        swelling = (1 + random.normal(scale=strain)) * np.eye(3)
        shear = random.normal(size=(3, 3), scale=strain)
        atoms.set_cell(atoms.cell.array @ (swelling + shear), scale_atoms=True)
        atoms.rattle(rattle, rng=random)
        atoms.calc = EMT()
        yield make_structure(
            atoms.positions,
            atomic_numbers=atoms.numbers.astype(np.int64),
            cell=atoms.cell.array,
            pbc=atoms.pbc,
            energy=float(atoms.get_potential_energy()),
            forces=atoms.get_forces(),
            stress=atoms.get_stress(voigt=False),
            identifier=f"copper:{number}",
        )


def rescaled(
    structure: LabelledStructure,
    *,
    energy: float = 1.0,
    forces: float = 1.0,
    stress: float = 1.0,
    positions: float = 1.0,
) -> LabelledStructure:
    """The structure as it is read when units are taken for others: values times these factors."""
    assert structure.energy is not None
    assert structure.forces is not None
    return replace(
        structure,
        energy=structure.energy * energy,
        forces=structure.forces * forces,
        positions=structure.positions * positions,
        stress=None if structure.stress is None else structure.stress * stress,
    )
