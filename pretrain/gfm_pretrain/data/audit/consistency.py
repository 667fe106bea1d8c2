"""Whether energies, forces and stresses fit together in unit and sign, from how they change.

Along a trajectory, the energy changes by the work that the forces and the stress do:

    ΔE = -Σ F · Δx + V σ : ε

    symbol  variable         meaning
    ΔE      change           energy of a configuration without that of the one before
    Δx      displacements    of the atoms, without the deformation of the cell
    ε       strain           of the cell, symmetric
    F, V σ                   means of the two, which makes the work exact to second order
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np
from jaxtyping import Float64

from gfm_pretrain.data.audit.pressure_offsets import PressureOffsets
from gfm_pretrain.data.audit.ratios import Ratios
from gfm_pretrain.data.audit.shear_orders import ShearOrders, works_of_stress
from gfm_pretrain.data.structure import LabelledStructure

LARGEST_DISPLACEMENT = 1.0
"""Å, of any atom; one that jumps further was wrapped into the cell, or is another."""
LARGEST_MEAN_DISPLACEMENT = 0.3
"""Å; beyond, the mean of two forces is not that on the way."""
LARGEST_STRAIN = 0.1
"""Of any component; beyond, the same holds of the stress."""
SAME_CELL = 1e-5
"""Å; lattice vectors that differ by less are rounded."""
SHARE_OF_STRESS = 2.0
"""Multiple of the work of the forces that the stress must do for a pair to tell of the stress."""
RATIOS = ("forces", "per_atom", "stress")
"""Fields of `Consistency` that are ratios."""


@dataclass(eq=False)
class Consistency:
    """What pairs of configurations tell of energies, forces and stresses."""

    forces: Ratios = field(default_factory=Ratios)
    """ΔE to the work of the forces, in one cell."""
    per_atom: Ratios = field(default_factory=Ratios)
    """ΔE times the number of atoms to the same: 1 if the energies are energies per atom."""
    stress: Ratios = field(default_factory=Ratios)
    """ΔE without the work of the forces to the work of the stress, where the cell changes."""
    shear: ShearOrders = field(default_factory=ShearOrders)
    """Whether it follows the stress in another order of its shear components."""
    offsets: PressureOffsets = field(default_factory=PressureOffsets)
    """Pressure that is missing in the stress for ΔE to be its work."""

    def add(self, first: LabelledStructure, second: LabelledStructure) -> None:
        """Count two configurations that follow each other, if they can be compared."""
        if not _comparable(first, second):
            return
        if np.abs(second.cell - first.cell).max() < SAME_CELL:
            self._add_motion(first, second)
        elif first.pbc.all():
            self._add_strain(first, second)

    def merge(self, other: "Consistency") -> None:
        """Take in what another process counted."""
        for test in fields(self):
            getattr(self, test.name).counts += getattr(other, test.name).counts

    def to_mapping(self) -> dict[str, dict[str, int]]:
        """Plain values for JSON."""
        return {test.name: getattr(self, test.name).to_mapping() for test in fields(self)}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Mapping[str, int]]) -> "Consistency":
        """From what `to_mapping` gave."""
        return cls(
            **{name: Ratios.from_mapping(mapping[name]) for name in RATIOS},
            shear=ShearOrders.from_mapping(mapping["shear"]),
            offsets=PressureOffsets.from_mapping(mapping["offsets"]),
        )

    def _add_motion(self, first: LabelledStructure, second: LabelledStructure) -> None:
        work = _work_of_forces(first, second, second.positions - first.positions)
        if work is not None:
            change = _change(first, second)
            self.forces.add(change, work)
            self.per_atom.add(change * first.n_atoms, work)

    def _add_strain(self, first: LabelledStructure, second: LabelledStructure) -> None:
        if first.stress is None or second.stress is None:
            return
        from_first = np.linalg.solve(first.cell, second.cell - first.cell)
        if np.abs(from_first).max() > LARGEST_STRAIN:
            return
        deformation = np.linalg.solve(np.eye(3) + from_first / 2, from_first)
        carried = (first.positions + second.positions) / 2 @ deformation
        motion = _work_of_forces(first, second, second.positions - first.positions - carried)
        if motion is None:
            return
        change = _change(first, second) - motion
        works = works_of_stress(_virial(first, second), (deformation + deformation.T) / 2)
        if abs(works[0]) > SHARE_OF_STRESS * abs(motion):
            self.stress.add(change, works[0])
            self.offsets.add(
                change - works[0],
                volume=_volume(first),
                swelling=_volume(second) - _volume(first),
            )
        if np.abs(works).max() > SHARE_OF_STRESS * abs(motion):
            self.shear.add(change, works)


def _comparable(first: LabelledStructure, second: LabelledStructure) -> bool:
    return (
        first.energy is not None
        and second.energy is not None
        and np.array_equal(first.atomic_numbers, second.atomic_numbers)
        and np.array_equal(first.pbc, second.pbc)
    )


def _change(first: LabelledStructure, second: LabelledStructure) -> float:
    assert first.energy is not None
    assert second.energy is not None
    return second.energy - first.energy


def _work_of_forces(
    first: LabelledStructure,
    second: LabelledStructure,
    displacements: Float64[np.ndarray, "atoms 3"],
) -> float | None:
    """Work in eV; None where forces are absent or the atoms went too far."""
    if first.forces is None or second.forces is None:
        return None
    lengths = np.sqrt((displacements**2).sum(axis=1))
    if lengths.max() > LARGEST_DISPLACEMENT or lengths.mean() > LARGEST_MEAN_DISPLACEMENT:
        return None
    return -float(((first.forces + second.forces) * displacements).sum()) / 2


def _virial(first: LabelledStructure, second: LabelledStructure) -> Float64[np.ndarray, "3 3"]:
    """Stress times volume in eV, the mean of both."""
    assert first.stress is not None
    assert second.stress is not None
    return (_volume(first) * first.stress + _volume(second) * second.stress) / 2


def _volume(structure: LabelledStructure) -> float:
    return float(abs(np.linalg.det(structure.cell)))
