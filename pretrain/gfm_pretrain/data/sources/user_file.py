"""What the readers of users' own files share: their options, groups and splits, frame → record."""

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from ase import Atoms

from gfm_pretrain.data.extxyz import BROKEN_FRAME
from gfm_pretrain.data.labels import (
    ChosenKeys,
    LabelKeys,
    choose_keys,
    count_keys,
    nearest_key,
    read_labels,
)
from gfm_pretrain.data.sources.source import Facts, Option, Options, Record, Refused

N_SAMPLED = 1000
"""Frames at the beginning of a file over which its keys are chosen: a second."""

FRAMES_PER_BLOCK = 256
"""Frames of a block: a tenth of a second to some."""

BLOCKS_PER_PART = 16
"""Blocks that are imported at a time: 4096 frames."""

LABELS = {
    "energy": "REF_energy or energy in info, arrays or the calculator, or energy_key; eV",
    "forces": "REF_forces or forces in the same places, or forces_key; eV/Å",
    "stress": (
        "REF_stress or stress in the same places, or stress_key; eV/Å^3, positive = tension; "
        "or minus REF_virials, virials or virial, or virial_key (eV), divided by the volume"
    ),
    "identifier": "source_id in info, else file and frame",
}
"""What is read: our name → key and unit in the file."""

UNREADABLE = (*BROKEN_FRAME, AttributeError, sqlite3.Error)
"""What ASE raises where a frame is damaged, and where its file cannot be reached."""

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
    "testing": "test",
}
"""Words in the name of a file, and the split that they say it is."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A frame that was found and not yet read."""

    place: str
    """`file:frame`, the frame as users of such files count it."""
    read: Callable[[], Atoms]
    """Reads it; raises one of `UNREADABLE` where it is damaged."""


@dataclass(frozen=True, kw_only=True)
class FrameRules:
    """How the frames of one file become records."""

    path: Path
    """The file."""
    keys: ChosenKeys
    """Where its labels are."""
    group_key: str
    """Key in `info` that says which frames belong together; "" for none."""
    group_by: str
    """`formula`, `file` or `frame`; it holds where there is no key."""
    split: str | None
    """Of the whole file, where its name says it."""


def user_options(*, group_by: str) -> dict[str, Option]:
    """The options of all files that users bring; `group_by` is the default of the option."""
    help_of = {
        "formula": "the same chemical formula",
        "file": "the same file",
        "frame": "nothing: each on its own, for frames that have nothing in common",
    }
    groups = (group_by, *(choice for choice in help_of if choice != group_by))
    described = "; ".join(f"{choice} ({help_of[choice]})" for choice in groups)
    return {
        "energy_key": Option(help="key of the energy (eV), where it is not a usual one"),
        "forces_key": Option(help="key of the forces (eV/Å), where it is not a usual one"),
        "stress_key": Option(help="key of the stress (eV/Å^3, positive = tension)"),
        "virial_key": Option(help="key of the virial (eV), in place of a stress"),
        "group_key": Option(
            help="key in info that names the molecule, material or trajectory of a frame; "
            "what has the same name is never divided between splits"
        ),
        "group_by": Option(
            choices=groups,
            help=f"without group_key, what frames that stay together have: {described}; "
            f"default {group_by}",
        ),
        "split_by": Option(
            choices=("group", "filename"),
            help="who says what validates and tests: a choice of groups, or the word train, "
            "valid or test in the name of the file or as its folder",
        ),
    }


def unknown_facts(_options: Options) -> Facts:
    """Nothing: only the user knows what such a file holds."""
    return Facts()


def frame_rules(path: Path, options: Options, frames: Iterable[Frame]) -> FrameRules:
    """Choose the keys of a file over its first frames.

    Args:
        path: The file.
        options: Those of `user_options`.
        frames: All of its frames; no more than needed are taken.

    Raises:
        ValueError: a key that was named is in none of them, there is neither energy nor forces,
            none can be read, or the name of the file does not say its split.
    """
    sample = _read_sample(path, frames)
    _check_group_key(path, options["group_key"], sample)
    return FrameRules(
        path=path,
        keys=choose_keys(
            sample.keys, keys=_label_keys(options), path=path, among=sample.description
        ),
        group_key=options["group_key"],
        group_by=options["group_by"],
        split=split_of_name(path) if options["split_by"] == "filename" else None,
    )


def read_frames(rules: FrameRules, frames: Iterable[Frame]) -> Iterator[Record | Refused]:
    """Read frames; one that is damaged is refused and the others go on.

    Raises:
        OSError: the file cannot be reached.
        sqlite3.OperationalError: another program has locked it.
    """
    for frame in frames:
        try:
            yield _to_record(frame.read(), frame.place, rules)
        except UNREADABLE as error:
            _raise_unless_damaged(error)
            yield Refused(identifier=frame.place, kind="unreadable", reason=describe(error))


def describe(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def runs_of(items: Sequence[T]) -> Iterator[tuple[Sequence[T], float]]:
    """Divide the frames of a file into blocks, each with the part of them up to its end."""
    for start in range(0, len(items), FRAMES_PER_BLOCK):
        run = items[start : start + FRAMES_PER_BLOCK]
        yield run, (start + len(run)) / len(items)


def split_of_name(path: Path) -> str:
    """The split that the name of a file says: a word of its name, or else the folder it is in.

    Raises:
        ValueError: it says none, or two.
    """
    folders = [{name.lower()} for name in reversed(path.parts[-3:-1])]
    for words in (set(re.split(r"[^a-z]+", path.name.lower())), *folders):
        found = {SPLIT_WORDS[word] for word in words & SPLIT_WORDS.keys()}
        if len(found) == 1:
            return found.pop()
        if found:
            raise ValueError(f"{path.name} names {' and '.join(sorted(found))}; use split_by=group")
    raise ValueError(
        f"{path}: split_by=filename needs the word train, valid or test in the name of the file "
        "or as its folder, found none; rename it, or use split_by=group"
    )


@dataclass(kw_only=True)
class _Sample:
    """What the first frames of a file have."""

    n_frames: int = 0
    keys: Counter[str] = field(default_factory=Counter)
    """Frames by key that could hold a label."""
    info_keys: Counter[str] = field(default_factory=Counter)
    """Frames by key of `info`."""
    n_read: int = 0
    first_error: str = ""
    """Of the frames that cannot be read."""

    @property
    def description(self) -> str:
        """For messages about "no structure"."""
        return f" among the first {N_SAMPLED}" if self.n_frames == N_SAMPLED else ""


def _read_sample(path: Path, frames: Iterable[Frame]) -> _Sample:
    sample = _Sample()
    for frame in islice(frames, N_SAMPLED):
        sample.n_frames += 1
        try:
            atoms = frame.read()
        except UNREADABLE as error:
            _raise_unless_damaged(error)
            sample.first_error = sample.first_error or f"{frame.place}: {describe(error)}"
            continue
        sample.n_read += 1
        sample.keys.update(count_keys([atoms]))
        sample.info_keys.update(list(atoms.info))  # a mapping would add its values
    if not sample.n_frames:
        raise ValueError(f"{path.name}: the file is empty")
    if not sample.n_read:
        raise ValueError(f"{path.name}: no frame can be read; {sample.first_error}")
    return sample


def _raise_unless_damaged(error: Exception) -> None:
    """Let a disk that fails or a database that is locked end the import, not shrink the data."""
    failed = isinstance(error, OSError) and error.errno is not None
    if failed or isinstance(error, sqlite3.OperationalError):
        raise error


def _label_keys(options: Options) -> LabelKeys:
    return LabelKeys(
        energy=options["energy_key"] or None,
        forces=options["forces_key"] or None,
        stress=options["stress_key"] or None,
        virial=options["virial_key"] or None,
    )


def _check_group_key(path: Path, group_key: str, sample: _Sample) -> None:
    if group_key and group_key not in sample.info_keys:
        raise ValueError(
            f"{path.name}: no structure{sample.description} has the group key {group_key!r} in "
            f"info; {nearest_key(group_key, sample.info_keys)}"
        )


def _to_record(atoms: Atoms, place: str, rules: FrameRules) -> Record:
    labels = read_labels(atoms, rules.keys)
    return Record(
        identifier=str(atoms.info.get("source_id", place)),
        group=_group_of(atoms, place, rules),
        split=rules.split,
        atomic_numbers=np.array(atoms.numbers, dtype=np.int64),
        positions=np.array(atoms.positions, dtype=np.float64),
        cell=np.array(atoms.cell.array, dtype=np.float64),
        pbc=np.array(atoms.pbc, dtype=np.bool_),
        energy=labels.energy,
        forces=labels.forces,
        stress=labels.stress,
    )


def _group_of(atoms: Atoms, place: str, rules: FrameRules) -> str:
    if rules.group_key:
        if rules.group_key not in atoms.info:
            raise ValueError(f"it has no {rules.group_key!r} in info to group it by")
        return _name_of(atoms.info[rules.group_key])
    if rules.group_by == "formula":
        return atoms.get_chemical_formula(mode="hill")
    # md1/OUT.traj and md2/OUT.traj are two files, wherever they are and however they are given
    file = "/".join(rules.path.absolute().parts[-2:])
    return file if rules.group_by == "file" else f"{file}:{place}"


def _name_of(value: Any) -> str:
    """A group's name; 7 and 7.0 are one, since ASE reads and writes both for a number."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
