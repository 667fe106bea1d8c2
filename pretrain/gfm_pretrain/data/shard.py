"""Many labelled structures in columns: their atoms end to end, in memory or mapped from files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, UInt8, UInt32, UInt64

from gfm_pretrain.data.structure import LabelledStructure

ENERGY, FORCES, STRESS = 1, 2, 4
"""Bits of the column `labels`."""

VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
"""Which of the six stress components xx yy zz yz xz xy stands where in the matrix."""
FROM_MATRIX = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])
"""Row and column of each of the six components."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """How one property is laid out."""

    counts: Literal["structures", "atoms", "letters", "ends"]
    """What a row belongs to; `ends` are the structures and one more."""
    dtype: str
    """As stored; the others are read as they are."""
    row: tuple[int, ...] = ()
    """Shape of a row."""
    absent: float | None = None
    """What every row holds where the column is left out, because no structure has the property."""


COLUMNS: Mapping[str, Column] = {
    "first_atom": Column(counts="ends", dtype="int64"),
    "atomic_numbers": Column(counts="atoms", dtype="uint8"),
    "positions": Column(counts="atoms", dtype="float32", row=(3,)),
    "cell": Column(counts="structures", dtype="float64", row=(3, 3), absent=0.0),
    "pbc": Column(counts="structures", dtype="bool", row=(3,), absent=0.0),
    "energy": Column(counts="structures", dtype="float64", absent=np.nan),
    "forces": Column(counts="atoms", dtype="float32", row=(3,), absent=np.nan),
    "stress": Column(counts="structures", dtype="float32", row=(6,), absent=np.nan),
    "labels": Column(counts="structures", dtype="uint8"),
    "n_edges": Column(counts="structures", dtype="uint32", row=(-1,)),
    "group": Column(counts="structures", dtype="uint64"),
    "first_letter": Column(counts="ends", dtype="int64"),
    "letters": Column(counts="letters", dtype="uint8"),
}
"""The columns of a store, each a file."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shard:
    """Structures in columns; one field for each of `COLUMNS`, NaN where a label is absent."""

    first_atom: Int64[np.ndarray, " structures_and_1"]
    """Row of the first atom of each structure, and the end of the last. It need not begin at 0."""
    atomic_numbers: UInt8[np.ndarray, " atoms"]
    """1 to 118."""
    positions: Float[np.ndarray, "atoms 3"]
    """Å."""
    cell: Float64[np.ndarray, "structures 3 3"]
    """Å; rows are lattice vectors."""
    pbc: Bool[np.ndarray, "structures 3"]
    """Whether a structure repeats along each lattice vector."""
    energy: Float64[np.ndarray, " structures"]
    """eV."""
    forces: Float[np.ndarray, "atoms 3"]
    """eV/Å."""
    stress: Float[np.ndarray, "structures 6"]
    """eV/Å^3, positive = tension; xx yy zz yz xz xy."""
    labels: UInt8[np.ndarray, " structures"]
    """Which labels there are, in the bits ENERGY, FORCES and STRESS."""
    n_edges: UInt32[np.ndarray, "structures radii"]
    """Directed edges shorter than each of the radii that belong to the set."""
    group: UInt64[np.ndarray, " structures"]
    """Hash of the molecule, material or trajectory."""
    first_letter: Int64[np.ndarray, " structures_and_1"]
    """As `first_atom`, of the identifiers in `letters`."""
    letters: UInt8[np.ndarray, " letters"]
    """Identifiers end to end, UTF-8."""

    def __len__(self) -> int:
        return len(self.first_atom) - 1

    @property
    def n_atoms(self) -> Int64[np.ndarray, " structures"]:
        """Number of atoms of each structure."""
        return np.diff(self.first_atom)

    @property
    def atoms(self) -> slice:
        """Rows of the columns of atoms that belong to this shard."""
        return slice(int(self.first_atom[0]), int(self.first_atom[-1]))

    def rows(self, start: int, stop: int) -> "Shard":
        """Some neighbouring structures, without copying."""
        cut = {name: getattr(self, name)[start:stop] for name in _names("structures")}
        ends = {name: getattr(self, name)[start : stop + 1] for name in _names("ends")}
        whole = {name: getattr(self, name) for name in (*_names("atoms"), *_names("letters"))}
        return Shard(**cut, **ends, **whole)

    def take(self, rows: Int64[np.ndarray, " taken"]) -> "Shard":
        """Copy some structures."""
        taken = {name: getattr(self, name)[rows] for name in _names("structures")}
        for ends, counts in (("first_atom", "atoms"), ("first_letter", "letters")):
            first = getattr(self, ends)
            lengths = first[rows + 1] - first[rows]
            taken[ends] = starts_of(lengths)
            items = ranges(first[rows], lengths)
            taken |= {name: getattr(self, name)[items] for name in _names(counts)}
        return Shard(**taken)

    def chunks(self, size: int = 8192) -> Iterator["Shard"]:
        """All structures in order, `size` at a time, without copying."""
        for start in range(0, len(self), size):
            yield self.rows(start, min(start + size, len(self)))

    def identifier(self, place: int) -> str:
        """What leads back to the record in the source."""
        letters = self.letters[self.first_letter[place] : self.first_letter[place + 1]]
        return letters.tobytes().decode("utf-8")

    def structure(self, place: int) -> LabelledStructure:
        """One structure, checked, in double precision."""
        atoms = slice(self.first_atom[place], self.first_atom[place + 1])
        labels = int(self.labels[place])
        stress = self.stress[place][VOIGT].astype(np.float64) if labels & STRESS else None
        return LabelledStructure(
            atomic_numbers=self.atomic_numbers[atoms].astype(np.int64),
            positions=self.positions[atoms].astype(np.float64),
            cell=np.array(self.cell[place]),
            pbc=np.array(self.pbc[place]),
            energy=float(self.energy[place]) if labels & ENERGY else None,
            forces=self.forces[atoms].astype(np.float64) if labels & FORCES else None,
            stress=stress,
            identifier=self.identifier(place),
        )


def make_shard(
    structures: Sequence[LabelledStructure],
    *,
    n_edges: UInt32[np.ndarray, "structures radii"],
    groups: UInt64[np.ndarray, " structures"],
) -> Shard:
    """Put structures into columns, in double precision."""
    names = [s.identifier.encode() for s in structures]
    return Shard(
        first_atom=starts_of([s.n_atoms for s in structures]),
        atomic_numbers=_join([s.atomic_numbers.astype(np.uint8) for s in structures], (0,)),
        positions=_join([s.positions for s in structures], (0, 3)),
        cell=np.array([s.cell for s in structures]).reshape(-1, 3, 3),
        pbc=np.array([s.pbc for s in structures], dtype=np.bool_).reshape(-1, 3),
        energy=np.array([np.nan if s.energy is None else s.energy for s in structures]),
        forces=_join([_forces(s) for s in structures], (0, 3)),
        stress=np.array([_stress(s) for s in structures]).reshape(-1, 6),
        labels=np.array([_labels(s) for s in structures], dtype=np.uint8),
        n_edges=n_edges,
        group=groups,
        first_letter=starts_of([len(name) for name in names]),
        letters=np.frombuffer(b"".join(names), dtype=np.uint8),
    )


def starts_of(lengths: Sequence[int] | Int64[np.ndarray, " runs"]) -> Int64[np.ndarray, " ends"]:
    """Where each of several runs begins when they are laid end to end, and the end of the last."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def ranges(
    starts: Int64[np.ndarray, " runs"], lengths: Int64[np.ndarray, " runs"]
) -> Int64[np.ndarray, " total"]:
    """The whole numbers of several runs, one run after the other."""
    ends = np.cumsum(lengths)
    return np.arange(lengths.sum()) + np.repeat(starts - (ends - lengths), lengths)


def _names(counts: str) -> list[str]:
    return [field.name for field in fields(Shard) if COLUMNS[field.name].counts == counts]


def _join(rows: Sequence[np.ndarray], empty: tuple[int, ...]) -> np.ndarray:
    return np.concatenate(rows) if rows else np.zeros(empty)


def _forces(structure: LabelledStructure) -> Float64[np.ndarray, "atoms 3"]:
    return np.full((structure.n_atoms, 3), np.nan) if structure.forces is None else structure.forces


def _stress(structure: LabelledStructure) -> Float64[np.ndarray, "6"]:
    return np.full(6, np.nan) if structure.stress is None else structure.stress[FROM_MATRIX]


def _labels(structure: LabelledStructure) -> int:
    return (
        ENERGY * (structure.energy is not None)
        + FORCES * (structure.forces is not None)
        + STRESS * (structure.stress is not None)
    )
