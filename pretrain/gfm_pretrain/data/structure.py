"""One atomic structure with the labels a level of theory gives it."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
from jaxtyping import Bool, Float64, Int64

LARGEST_ATOMIC_NUMBER = 118
SMALLEST_VOLUME = 1e-6
"""Å^3; cell vectors that span less are not three independent ones."""
STRESS_ASYMMETRY = (1e-2, 1e-4)
"""Largest difference of a stress from its transpose: relative to its largest component, and
absolute (eV/Å^3; 0.16 kbar). Codes that print few digits stay below it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledStructure:
    """An atomic structure and its labels; a label that is absent is None, never zero.

    Raises:
        ValueError: a field has another shape or type than stated, a value is not finite, there are
            no atoms, or a stress comes without three cell vectors. The message names the structure.
    """

    atomic_numbers: Int64[np.ndarray, "atoms"]
    positions: Float64[np.ndarray, "atoms 3"]
    """Å, Cartesian."""
    cell: Float64[np.ndarray, "3 3"]
    """Å; rows are lattice vectors, zeros where there is none."""
    pbc: Bool[np.ndarray, "3"]
    """Whether the structure repeats along each lattice vector."""
    energy: float | None = None
    """Total energy, eV, as the level of theory gives it."""
    forces: Float64[np.ndarray, "atoms 3"] | None = None
    """eV/Å."""
    stress: Float64[np.ndarray, "3 3"] | None = None
    """eV/Å^3, symmetric: dE/d(strain) / volume, so positive = tension (ASE's sign)."""
    identifier: str
    """Leads back to the record: `train.extxyz.gz:17`, or the id its source gave it."""

    def __post_init__(self) -> None:
        """Check every field."""
        self._check_geometry()
        self._check_labels()

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.atomic_numbers)

    def _check_geometry(self) -> None:
        n = self.n_atoms
        self._check_array("atomic_numbers", self.atomic_numbers, np.int64, (n,))
        self._check_array("positions", self.positions, np.float64, (n, 3))
        self._check_array("cell", self.cell, np.float64, (3, 3))
        self._check_array("pbc", self.pbc, np.bool_, (3,))
        if n == 0:
            raise self._error("there are no atoms")
        if self.atomic_numbers.min() < 1 or self.atomic_numbers.max() > LARGEST_ATOMIC_NUMBER:
            raise self._error(
                f"`atomic_numbers` must lie in 1 … {LARGEST_ATOMIC_NUMBER}, "
                f"got {self.atomic_numbers.min()} … {self.atomic_numbers.max()}"
            )
        for axis in range(3):
            if self.pbc[axis] and not self.cell[axis].any():
                raise self._error(f"`pbc[{axis}]` is true but cell vector {axis} is zero")

    def _check_labels(self) -> None:
        if self.energy is not None and not np.isfinite(self.energy):
            raise self._error(f"`energy` must be finite, got {self.energy}")
        if self.forces is not None:
            self._check_array("forces", self.forces, np.float64, (self.n_atoms, 3))
        if self.stress is not None:
            self._check_stress(self.stress)

    def _check_stress(self, stress: Float64[np.ndarray, "3 3"]) -> None:
        self._check_array("stress", stress, np.float64, (3, 3))
        if not np.array_equal(stress, stress.T):
            raise self._error("`stress` must be symmetric; use (stress + stress.T) / 2")
        if abs(np.linalg.det(self.cell)) < SMALLEST_VOLUME:
            raise self._error(
                "a stress needs three independent cell vectors; give the cell or remove the stress"
            )

    def _check_array(
        self, name: str, value: np.ndarray, dtype: type[np.generic], shape: tuple[int, ...]
    ) -> None:
        if value.shape != shape:
            raise self._error(f"`{name}` must have shape {list(shape)}, got {list(value.shape)}")
        if value.dtype != dtype:
            raise self._error(f"`{name}` must be {np.dtype(dtype).name}, got {value.dtype}")
        if not np.isfinite(value).all():
            n_bad = int(np.count_nonzero(~np.isfinite(value)))
            raise self._error(f"`{name}` must be finite, got {n_bad} values that are not")

    def _error(self, message: str) -> ValueError:
        return ValueError(f"structure {self.identifier}: {message}")


def symmetric_stress(
    stress: Float64[np.ndarray, "3 3"], *, name: str = "the stress"
) -> Float64[np.ndarray, "3 3"]:
    """A stress that is symmetric to the digits of its code, made exactly so.

    Raises:
        ValueError: it has another shape or is not symmetric; `name` is what the message calls it.
    """
    if stress.shape != (3, 3):
        raise ValueError(f"{name} must have shape [3, 3], got {list(stress.shape)}")
    relative, absolute = STRESS_ASYMMETRY
    if np.abs(stress - stress.T).max() > absolute + relative * np.abs(stress).max():
        raise ValueError(f"{name} is not symmetric: {stress.tolist()}")
    return (stress + stress.T) / 2


def to_atoms(structure: LabelledStructure) -> Atoms:
    """Convert to ASE, the labels in a `SinglePointCalculator`, the identifier in `source_id`."""
    atoms = Atoms(
        numbers=structure.atomic_numbers,
        positions=structure.positions,
        cell=structure.cell,
        pbc=structure.pbc,
        info={"source_id": structure.identifier},
    )
    stress = structure.stress
    labels = {
        "energy": structure.energy,
        "forces": structure.forces,
        "stress": None if stress is None else full_3x3_to_voigt_6_stress(stress),
    }
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms
