"""Read labelled structures from extended XYZ, and say which keys their labels were found under.

Labels hide in three places: `atoms.info`, `atoms.arrays` and, since ASE 3.23, the results of a
`SinglePointCalculator`, into which ASE moves the keys it knows (`energy`, `forces`, `stress`). All
three are searched, one key per label is taken for the whole file, and what was found is reported.
"""

import difflib
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np
from ase import Atoms
from ase.io import read
from ase.io.extxyz import key_val_str_to_dict
from ase.stress import voigt_6_to_full_3x3_stress
from jaxtyping import Float64

from gfm_pretrain.data.structure import SMALLEST_VOLUME, LabelledStructure

VIRIAL_KEYS = ("REF_virials", "REF_virial", "virials", "virial")

CANDIDATE_KEYS: Mapping[str, tuple[str, ...]] = {
    "energy": ("REF_energy", "energy"),
    "forces": ("REF_forces", "forces"),
    "stress": ("REF_stress", "REF_virials", "REF_virial", "stress", "virials", "virial"),
}
"""Where labels are looked for when the user names no key, first match first. `free_energy` is not
among them: with smearing it is another quantity than `energy`, so the user has to ask for it."""

STRESS_ASYMMETRY = (1e-2, 1e-4)
"""Largest difference of a stress from its transpose: relative to its largest component, and
absolute (eV/Å^3; 0.16 kbar). Codes that print few digits stay below it."""

_SIX_NUMBERS = re.compile(r'\b(stress|virial)="\s*((?:[^\s",]+[\s,]+){5}[^\s",]+)\s*"')

# What broken files make gzip (EOFError, zlib.error) and ASE raise: its XYZError is an OSError, an
# unknown element a KeyError.
_FRAME_ERRORS = (
    *(OSError, ValueError, KeyError, IndexError, TypeError, AssertionError),
    *(EOFError, zlib.error),
)


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


def read_extxyz(
    path: str | Path, *, keys: LabelKeys | None = None
) -> tuple[list[LabelledStructure], LabelTable]:
    """Read all structures of an extended XYZ file, plain or compressed (`.gz`).

    Args:
        path: the file. A structure is identified by its `source_id`, else as `file:frame`, frames
            counted from 0 as in `ase.io.read(path, frame)`.
        keys: names of the keys that hold the labels, where they are not the usual ones.

    Returns:
        The structures in the order of the file, and the table of labels to be shown to the user.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is empty or broken (the message has the frame), a key that was named
            is not in it, or no structure has an energy or forces.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    frames = _read_frames(path)
    if not frames:
        raise ValueError(f"{path.name}: the file is empty")
    return label_structures(frames, path=path, keys=keys or LabelKeys())


def label_structures(
    frames: Sequence[Atoms], *, path: Path, keys: LabelKeys
) -> tuple[list[LabelledStructure], LabelTable]:
    """Find the labels of structures that ASE has read from `path`; errors as in `read_extxyz`."""
    counts = Counter(key for atoms in frames for key in _values(atoms))
    chosen = {label: _choose_key(label, counts, path, keys) for label in CANDIDATE_KEYS}
    if chosen["energy"] is None and chosen["forces"] is None:
        raise ValueError(
            f"{path.name}: no structure has an energy or forces; {_list_keys(counts)}; "
            f"name them with --energy-key and --forces-key, or LabelKeys(energy=..., forces=...)"
        )
    structures = []
    for index, atoms in enumerate(frames):
        try:
            structures.append(_to_structure(atoms, f"{path.name}:{index}", chosen, keys))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path.name}, frame {index}: {error}") from error
    return structures, _tabulate(path, len(frames), counts, chosen)


def _choose_key(label: str, counts: Mapping[str, int], path: Path, keys: LabelKeys) -> str | None:
    named = keys.named(label)
    if named is None:
        return next((key for key in CANDIDATE_KEYS[label] if key in counts), None)
    if named in counts:
        return named
    nearest = difflib.get_close_matches(named, counts, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise ValueError(
        f"{path.name}: no structure has the {label} key {named!r}; {_list_keys(counts)}{hint}"
    )


def _tabulate(
    path: Path, n_structures: int, counts: Mapping[str, int], chosen: Mapping[str, str | None]
) -> LabelTable:
    def found(label: str) -> FoundLabel:
        key = chosen[label]
        others = (k for k in CANDIDATE_KEYS[label] if k in counts and k != key)
        n = 0 if key is None else counts[key]
        return FoundLabel(label=label, key=key, n_structures=n, ignored=tuple(others))

    return LabelTable(
        path=path,
        n_structures=n_structures,
        energy=found("energy"),
        forces=found("forces"),
        stress=found("stress"),
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


def _to_structure(
    atoms: Atoms, place: str, chosen: Mapping[str, str | None], keys: LabelKeys
) -> LabelledStructure:
    values = _values(atoms)
    label = {name: values.get(key) for name, key in chosen.items() if key is not None}
    energy, forces, stress = label.get("energy"), label.get("forces"), label.get("stress")
    if stress is not None:
        key = chosen["stress"] or ""
        stress = _to_stress(stress, key, atoms.cell.volume if keys.is_virial(key) else None)
    return LabelledStructure(
        atomic_numbers=atoms.numbers.astype(np.int64),
        positions=np.array(atoms.positions, dtype=np.float64),
        cell=np.array(atoms.cell.array, dtype=np.float64),
        pbc=np.array(atoms.pbc, dtype=np.bool_),
        energy=None if energy is None else _to_float(energy, chosen["energy"]),
        forces=None if forces is None else np.array(forces, dtype=np.float64),
        stress=stress,
        identifier=str(atoms.info.get("source_id", place)),
    )


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
    relative, absolute = STRESS_ASYMMETRY
    if np.abs(matrix - matrix.T).max() > absolute + relative * np.abs(matrix).max():
        raise ValueError(f"the stress from {key!r} is not symmetric: {matrix.tolist()}")
    return (matrix + matrix.T) / 2


def _to_matrix(value: object, key: str) -> Float64[np.ndarray, "3 3"]:
    array = np.asarray(value, dtype=np.float64)
    if array.shape == (6,):  # ASE's Voigt order: xx, yy, zz, yz, xz, xy
        return voigt_6_to_full_3x3_stress(array)
    if array.shape in ((3, 3), (9,)):
        return array.reshape(3, 3)
    raise ValueError(f"{key!r} must have shape [3, 3], [9] or [6], got {list(array.shape)}")


def _read_frames(path: Path) -> list[Atoms]:
    """Read the frames one by one, so that an error has the number of its frame.

    ASE reads whole files too, but seeks in them, which in a gzip stream takes a time quadratic in
    the number of frames (7200 frames: 100 s instead of 2.5 s).
    """
    frames: list[Atoms] = []
    try:
        with _open(path) as stream:
            for text in _split(stream):
                frames.append(_parse(text))
    except _FRAME_ERRORS as error:
        message = str(error) or type(error).__name__
        raise ValueError(f"{path.name}, frame {len(frames)}: {message}") from error
    return frames


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _split(stream: TextIO) -> Iterator[str]:
    """Yield the text of each frame; empty lines between frames are skipped."""
    for header in stream:
        if not header.strip():
            continue
        if not header.strip().isdecimal():
            raise ValueError(f"expected the number of atoms, got {header.strip()!r}")
        n_lines = 1 + int(header)
        body = list(islice(stream, n_lines))
        if len(body) < n_lines:
            raise ValueError(f"the file ends {n_lines - len(body)} lines early")
        yield header + "".join(body)


def _parse(text: str) -> Atoms:
    # parallel=False: under MPI, ASE would give every rank what rank 0 read, whatever its own file
    atoms = read(
        io.StringIO(text),
        index=0,
        format="extxyz",
        parallel=False,
        properties_parser=_parse_comment,
    )
    assert isinstance(atoms, Atoms)
    return atoms


def _parse_comment(comment: str) -> dict[str, object]:
    """Parse a comment line as ASE does, but let `stress` and `virial` have six numbers too."""
    return key_val_str_to_dict(_SIX_NUMBERS.sub(_write_nine_numbers, comment))


def _write_nine_numbers(match: re.Match[str]) -> str:
    xx, yy, zz, yz, xz, xy = match[2].replace(",", " ").split()
    return f'{match[1]}="{xx} {xy} {xz} {xy} {yy} {yz} {xz} {yz} {zz}"'
