"""Read labelled structures from extended XYZ, plain or compressed, frame by frame."""

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np
from ase import Atoms
from ase.io import read
from ase.io.extxyz import key_val_str_to_dict

from gfm_pretrain.data.labels import (
    ChosenKeys,
    LabelKeys,
    LabelTable,
    choose_keys,
    count_keys,
    read_labels,
    tabulate_labels,
)
from gfm_pretrain.data.structure import LabelledStructure

_SIX_NUMBERS = re.compile(r'\b(stress|virial)="\s*((?:[^\s",]+[\s,]+){5}[^\s",]+)\s*"')

BROKEN_FILE = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)
"""What a file that is not text, not compressed as its name says, or cut off raises."""

BROKEN_FRAME = (*BROKEN_FILE, KeyError, IndexError, TypeError, AssertionError)
"""What ASE raises in a frame it cannot read, as well: an unknown element is a KeyError."""


def read_extxyz(
    path: str | Path, *, keys: LabelKeys | None = None
) -> tuple[list[LabelledStructure], LabelTable]:
    """Read all structures of an extended XYZ file, plain or compressed (`.gz`, `.bz2`, `.xz`).

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
    counts = count_keys(frames)
    chosen = choose_keys(counts, keys=keys, path=path)
    structures = []
    for index, atoms in enumerate(frames):
        try:
            structures.append(_to_structure(atoms, f"{path.name}:{index}", chosen))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path.name}, frame {index}: {error}") from error
    return structures, tabulate_labels(counts, chosen, path=path, n_structures=len(frames))


def open_text(raw: BinaryIO, path: Path) -> TextIO:
    """The text of a file that is open in binary mode, decompressed as its name says."""
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.GzipFile(fileobj=raw), encoding="utf-8")
    if path.suffix == ".bz2":
        return io.TextIOWrapper(bz2.BZ2File(raw), encoding="utf-8")
    if path.suffix == ".xz":
        return io.TextIOWrapper(lzma.LZMAFile(raw), encoding="utf-8")
    return io.TextIOWrapper(raw, encoding="utf-8")


def split_frames(stream: TextIO) -> Iterator[str]:
    """Yield the text of each frame, found by counting lines; empty lines between them are skipped.

    Raises:
        ValueError: a frame does not begin with its number of atoms, or the file ends inside it.
    """
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


def parse_frame(text: str) -> Atoms:
    """Read one frame.

    Raises:
        Exception: one of `BROKEN_FRAME`.
    """
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


def _to_structure(atoms: Atoms, place: str, chosen: ChosenKeys) -> LabelledStructure:
    labels = read_labels(atoms, chosen)
    return LabelledStructure(
        atomic_numbers=atoms.numbers.astype(np.int64),
        positions=np.array(atoms.positions, dtype=np.float64),
        cell=np.array(atoms.cell.array, dtype=np.float64),
        pbc=np.array(atoms.pbc, dtype=np.bool_),
        energy=labels.energy,
        forces=labels.forces,
        stress=labels.stress,
        identifier=str(atoms.info.get("source_id", place)),
    )


def _read_frames(path: Path) -> list[Atoms]:
    """Read the frames one by one, so that an error has the number of its frame.

    ASE reads whole files too, but seeks in them, which in a gzip stream takes a time quadratic in
    the number of frames (7200 frames: 100 s instead of 2.5 s).
    """
    frames: list[Atoms] = []
    try:
        with path.open("rb") as raw, open_text(raw, path) as stream:
            for text in split_frames(stream):
                frames.append(parse_frame(text))
    except BROKEN_FRAME as error:
        message = str(error) or type(error).__name__
        raise ValueError(f"{path.name}, frame {len(frames)}: {message}") from error
    return frames


def _parse_comment(comment: str) -> dict[str, object]:
    """Parse a comment line as ASE does, but let `stress` and `virial` have six numbers too."""
    return key_val_str_to_dict(_SIX_NUMBERS.sub(_write_nine_numbers, comment))


def _write_nine_numbers(match: re.Match[str]) -> str:
    xx, yy, zz, yz, xz, xy = match[2].replace(",", " ").split()
    return f'{match[1]}="{xx} {xy} {xz} {xy} {yy} {yz} {xz} {yz} {zz}"'
