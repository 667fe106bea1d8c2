"""Find the labels in what ASE has read: which keys they are under, and what they are in eV and Å.

Labels hide in three places: `atoms.info`, `atoms.arrays` and, since ASE 3.23, the results of a
`SinglePointCalculator`, into which ASE moves the keys it knows (`energy`, `forces`, `stress`). All
three are searched, one key per label is taken for the whole file, and what was found is reported.
"""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from jaxtyping import Float64

from gfm_pretrain.data.structure import SMALLEST_VOLUME, symmetric_stress

VIRIAL_KEYS = ("REF_virials", "REF_virial", "virials", "virial")

CANDIDATE_KEYS: Mapping[str, tuple[str, ...]] = {
    "energy": ("REF_energy", "energy"),
    "forces": ("REF_forces", "forces"),
    "stress": ("REF_stress", "REF_virials", "REF_virial", "stress", "virials", "virial"),
}
"""Where labels are looked for when the user names no key, first match first. `free_energy` is not
among them: with smearing it is another quantity than `energy`, so the user has to ask for it."""


@dataclass(frozen=True)
class LabelKeys:
    """Keys of a user's file that hold the labels; None looks for the usual ones.

    A key named here must be in at least one structure. Values are in eV, eV/Å, eV/Å^3 and have
    ASE's signs. `virial` (eV) is an alternative to `stress`: stress = -virial / volume.
    """

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    virial: str | None = None

    def __post_init__(self) -> None:
        """Check that stress and virial do not contradict each other."""
        if self.stress is not None and self.virial is not None:
            raise ValueError(
                f"name a stress key ({self.stress!r}) or a virial key ({self.virial!r}), not both"
            )
        if self.stress is not None and "virial" in self.stress.lower():
            raise ValueError(
                f"the stress key {self.stress!r} names a virial, which has another sign and unit; "
                f"pass it as virial={self.stress!r}"
            )

    def named(self, label: str) -> str | None:
        """Return the key the user gave for `energy`, `forces` or `stress`, if any."""
        named = {"energy": self.energy, "forces": self.forces, "stress": self.stress or self.virial}
        return named[label]

    def is_virial(self, key: str) -> bool:
        """Whether what is stored under `key` is a virial and not a stress."""
        return key == self.virial or key in VIRIAL_KEYS


@dataclass(frozen=True, kw_only=True)
class FoundLabel:
    """Where one label was found."""

    label: str
    """`energy`, `forces` or `stress`."""
    key: str | None
    """The key it was read from; None if there is none."""
    n_structures: int
    """Structures that have it."""
    ignored: tuple[str, ...]
    """Further keys of the file that could have been meant and were not read."""


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """Which labels a file has, under which keys, for how many structures."""

    path: Path
    n_structures: int
    energy: FoundLabel
    forces: FoundLabel
    stress: FoundLabel

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Rows (label, key, structures, ignored keys) for a printed table, "-" where nothing is."""
        return [
            (
                found.label,
                found.key or "-",
                f"{found.n_structures} of {self.n_structures}",
                ", ".join(found.ignored) or "-",
            )
            for found in (self.energy, self.forces, self.stress)
        ]


@dataclass(frozen=True, kw_only=True)
class ChosenKeys:
    """The one key that each label of a file is read from; None where there is none."""

    energy: str | None
    """eV."""
    forces: str | None
    """eV/Å."""
    stress: str | None
    """eV/Å^3, or eV where it is a virial."""
    is_virial: bool
    """Whether `stress` is the key of a virial."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FoundLabels:
    """The labels of one frame; None where its file's key is not there."""

    energy: float | None
    """eV."""
    forces: Float64[np.ndarray, "..."] | None
    """eV/Å, in the shape found."""
    stress: Float64[np.ndarray, "3 3"] | None
    """eV/Å^3, symmetric, positive = tension."""


def count_keys(frames: Iterable[Atoms]) -> Counter[str]:
    """How many of some frames have each key that could hold a label."""
    return Counter(key for atoms in frames for key in _values(atoms))


def choose_keys(
    counts: Mapping[str, int], *, keys: LabelKeys, path: Path, among: str = ""
) -> ChosenKeys:
    """Take one key per label: the one the user names, else the first of the usual ones.

    Args:
        counts: Keys of the file, see `count_keys`.
        keys: What the user names.
        path: The file, for the message.
        among: Which of its structures were counted, such as " among the first 1000"; "" for all.

    Raises:
        ValueError: a key that was named is not there, or there is neither energy nor forces.
    """
    chosen = {label: _choose_key(label, counts, path, keys, among) for label in CANDIDATE_KEYS}
    if chosen["energy"] is None and chosen["forces"] is None:
        raise ValueError(
            f"{path.name}: no structure{among} has an energy or forces; {_list_keys(counts)}; "
            "name them with energy_key and forces_key (gfm-finetune: --energy-key, --forces-key; "
            "Python: LabelKeys)"
        )
    return ChosenKeys(**chosen, is_virial=keys.is_virial(chosen["stress"] or ""))


def read_labels(atoms: Atoms, chosen: ChosenKeys) -> FoundLabels:
    """The labels of a frame.

    Raises:
        ValueError: what is under a key is not such a label.
    """
    values = _values(atoms)
    energy, forces, stress = (
        None if key is None else values.get(key)
        for key in (chosen.energy, chosen.forces, chosen.stress)
    )
    volume = atoms.cell.volume if chosen.is_virial else None
    return FoundLabels(
        energy=None if energy is None else _to_float(energy, chosen.energy),
        forces=None if forces is None else np.array(forces, dtype=np.float64),
        stress=None if stress is None else _to_stress(stress, chosen.stress or "", volume),
    )


def tabulate_labels(
    counts: Mapping[str, int], chosen: ChosenKeys, *, path: Path, n_structures: int
) -> LabelTable:
    """What was found and taken, to be shown to the user."""

    def found(label: str, key: str | None) -> FoundLabel:
        others = (k for k in CANDIDATE_KEYS[label] if k in counts and k != key)
        n = 0 if key is None else counts[key]
        return FoundLabel(label=label, key=key, n_structures=n, ignored=tuple(others))

    return LabelTable(
        path=path,
        n_structures=n_structures,
        energy=found("energy", chosen.energy),
        forces=found("forces", chosen.forces),
        stress=found("stress", chosen.stress),
    )


def nearest_key(key: str, counts: Mapping[str, int]) -> str:
    """The keys there are and the one that was perhaps meant, to end an error message."""
    nearest = difflib.get_close_matches(key, counts, n=1)
    return _list_keys(counts) + (f"; did you mean {nearest[0]!r}?" if nearest else "")


def _choose_key(
    label: str, counts: Mapping[str, int], path: Path, keys: LabelKeys, among: str
) -> str | None:
    named = keys.named(label)
    if named is None:
        return next((key for key in CANDIDATE_KEYS[label] if key in counts), None)
    if named in counts:
        return named
    raise ValueError(
        f"{path.name}: no structure{among} has the {label} key {named!r}; "
        f"{nearest_key(named, counts)}"
    )


def _list_keys(counts: Mapping[str, int]) -> str:
    if not counts:
        return "the file has no keys besides positions and cell"
    return f"its keys are {', '.join(sorted(counts))}"


def _values(atoms: Atoms) -> dict[str, object]:
    """All that could be a label: `info`, `arrays` and results of the calculator, by key."""
    geometry = ("numbers", "positions")
    arrays = {key: value for key, value in atoms.arrays.items() if key not in geometry}
    results = atoms.calc.results if atoms.calc is not None else {}
    return {**atoms.info, **arrays, **results}


def _to_float(value: object, key: str | None) -> float:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "fiu":
        raise ValueError(f"the energy key {key!r} must hold one number, got {value!r}")
    return float(array.reshape(()))


def _to_stress(value: object, key: str, volume: float | None) -> Float64[np.ndarray, "3 3"]:
    """Bring a stress (eV/Å^3), or a virial (eV) if a volume (Å^3) is given, to a 3x3 stress.

    stress = -virial / volume: the virial is -dE/d(strain), positive under compression.
    """
    matrix = _to_matrix(value, key)
    if volume is not None:
        if volume < SMALLEST_VOLUME:
            raise ValueError(f"the virial {key!r} needs three independent cell vectors")
        matrix = -matrix / volume
    return symmetric_stress(matrix, name=f"the stress from {key!r}")


def _to_matrix(value: object, key: str) -> Float64[np.ndarray, "3 3"]:
    array = np.asarray(value, dtype=np.float64)
    if array.shape == (6,):  # ASE's Voigt order: xx, yy, zz, yz, xz, xy
        return voigt_6_to_full_3x3_stress(array)
    if array.shape in ((3, 3), (9,)):
        return array.reshape(3, 3)
    raise ValueError(f"{key!r} must have shape [3, 3], [9] or [6], got {list(array.shape)}")
