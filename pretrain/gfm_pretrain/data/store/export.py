"""From a store to extended XYZ, for a look with other tools."""

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
from ase.io import write

from gfm_pretrain.data.store.store import Store
from gfm_pretrain.data.structure import to_atoms
from gfm_pretrain.data.structure_set import StructureSet


def export_extxyz(
    store: Store,
    path: Path,
    *,
    split: str | None = None,
    identifiers: Sequence[str] | None = None,
    most: int | None = None,
) -> int:
    """Write structures with their labels, in eV and Å, ASE's sign of the stress.

    Every frame says in its comment line which record it was (`source_id`) and its `split`.

    Args:
        store: Opened.
        path: A new file; compressed where it ends in `.gz`.
        split: Only this one.
        identifiers: Only these.
        most: At most so many of each split, evenly spread.

    Returns:
        How many were written.

    Raises:
        FileExistsError: the file is there already.
        ValueError: the store has no such split, or no structure with one of the identifiers.
    """
    if split is not None and split not in store.splits:
        raise ValueError(f"{store.folder} has no split '{split}', it has {', '.join(store.splits)}")
    if most is not None and most < 1:
        raise ValueError(f"--most must be at least 1, got {most}")
    chosen = {
        name: _choose(structures, identifiers, most)
        for name, structures in store.splits.items()
        if split in (None, name)
    }
    n_structures = sum(len(places) for places in chosen.values())
    if not n_structures:
        raise ValueError(f"{store.folder} has no structure {', '.join(identifiers or ())}")
    with _create(path) as file:
        for name, places in chosen.items():
            for structure in store.splits[name].structures(places):
                atoms = to_atoms(structure)
                atoms.info["split"] = name
                write(file, atoms, format="extxyz")
    return n_structures


def _choose(
    structures: StructureSet, identifiers: Sequence[str] | None, most: int | None
) -> np.ndarray:
    places = np.arange(len(structures))
    if identifiers is not None:
        wanted = set(identifiers)
        named = [place for place, name in enumerate(_identifiers(structures)) if name in wanted]
        places = np.array(named, dtype=np.int64)
    if most is not None and most < len(places):
        return places[np.arange(most) * len(places) // most]
    return places


def _identifiers(structures: StructureSet) -> Iterator[str]:
    for chunk in structures.chunks():
        yield from (chunk.identifier(row) for row in range(len(chunk)))


def _create(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "xt", encoding="utf-8")
    return path.open("x", encoding="utf-8")
