"""What a source is: a published data set, the records in its files, and what is known of it.

A new source is a file with one function, `blocks`, and one `Source`, entered in `registry.py`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

Options = Mapping[str, str]
"""The options of a source by name, every one present; "" is a free text that was not given."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """One structure as its source gives it, converted to eV and Å and otherwise unchecked."""

    identifier: str
    """Leads back to the record in the published file, as its users write it."""
    group: str
    """Molecule, material or trajectory it belongs to: never divided between splits."""
    split: str | None = None
    """`train`, `valid` or `test` where a split is published."""
    atomic_numbers: Int[np.ndarray, " atoms"]
    positions: Float[np.ndarray, "atoms 3"]
    """Å."""
    cell: Float[np.ndarray, "3 3"] = field(default_factory=lambda: np.zeros((3, 3)))
    """Å; rows are lattice vectors, zeros where there is none."""
    pbc: Bool[np.ndarray, "3"] = field(default_factory=lambda: np.zeros(3, dtype=bool))
    """Whether the structure repeats along each lattice vector."""
    energy: float | None = None
    """Total energy in eV that belongs to the forces; None where it was not computed."""
    forces: Float[np.ndarray, "atoms 3"] | None = None
    """eV/Å."""
    stress: Float[np.ndarray, "3 3"] | None = None
    """eV/Å^3, ASE's sign: positive = tension."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A record that a reader could not or must not use."""

    identifier: str
    """As in `Record`."""
    kind: str
    """`unreadable`, or `duplicate` for one that the publishers ask to leave out."""
    reason: str
    """What was found, in one line."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Neighbouring records of a file: what is cheap to pass over and read by one process."""

    read: Callable[[], Iterable[Record | Refused]]
    """Reads them, in the order of the file; configurations of one trajectory follow each other."""
    done: float
    """Part of the file, 0 to 1, that lies before the end of this block."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One choice that a source leaves to the user."""

    help: str
    """What is chosen, in one line."""
    choices: tuple[str, ...] = ()
    """The valid values, the default first; none for free text, whose default is ""."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of the labels and of their publication."""

    level_of_theory: str = ""
    """Such as `PBE/VASP`; empty where only the user can know."""
    description: str = ""
    """One sentence for the head's description; also which energy was taken, where there are two."""
    licence: str = ""
    """SPDX identifier where there is one."""
    citation: str = ""
    """How it wants to be cited."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A published data set, or a kind of file that users bring."""

    name: str
    """On the command line."""
    layout: str
    """The files it reads and the units in them, in one line."""
    keys: Mapping[str, str]
    """What is read: our name → key and unit in the file."""
    facts: Callable[[Options], Facts]
    """What is known of the data under the options chosen."""
    blocks: Callable[[Path, Options], Iterator[Block]]
    """Goes through a file; the same blocks in the same order every time.

    Raises ValueError (one line, naming the file) where the file is not of this layout or damaged.
    """
    blocks_per_part: int
    """How many blocks are imported at a time: some thousand structures."""
    options: Mapping[str, Option] = field(default_factory=dict)
    """The choices it leaves to the user, by name."""


def resolve_options(source: Source, given: Mapping[str, str]) -> Options:
    """All options of a source, those not given at their defaults.

    Raises:
        ValueError: an unknown option or choice; the message lists the valid ones.
    """
    for name, value in given.items():
        if name not in source.options:
            valid = ", ".join(source.options) or "none"
            raise ValueError(f"{source.name} has no option '{name}'; its options are: {valid}")
        choices = source.options[name].choices
        if choices and value not in choices:
            raise ValueError(
                f"option '{name}' of {source.name} must be one of {', '.join(choices)}, "
                f"got '{value}'"
            )
    defaults = {name: (o.choices or ("",))[0] for name, o in source.options.items()}
    return {**defaults, **given}
