"""The folders train/, valid/ and test/ of a store that is being made."""

import shutil
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from gfm_pretrain.data.audit.checks import EDGE_RADII
from gfm_pretrain.data.reference import elements_of
from gfm_pretrain.data.shard import ENERGY, FORCES, STRESS, Shard
from gfm_pretrain.data.store.columns import is_absent, write_shard
from gfm_pretrain.data.store.manifest import SPLITS, ShardFacts, SplitFacts
from gfm_pretrain.data.store.rows import Rows, Splits
from gfm_pretrain.data.store.store import open_split
from gfm_pretrain.data.structure_set import StructureSet

MOST_ATOMS_IN_SHARD = 32_000_000
"""Atoms after which a new shard is begun: 0.4 GB of positions, and as much of forces."""


def write_splits(folder: Path, rows: Rows, splits: Splits) -> dict[str, SplitFacts]:
    """Write the structures that are kept, in the order of the data, in place of any before.

    Args:
        folder: Of the store.
        rows: The structures of the import.
        splits: Which split each of them is in.

    Returns:
        Facts of the splits that have structures.
    """
    written = {}
    for number, name in enumerate(SPLITS):
        shutil.rmtree(folder / name, ignore_errors=True)
        chunks = rows.selection(splits == number).chunks()
        shards = {}
        for shard, run in groupby(chunks, key=_shard_numbers()):
            place = f"{name}/{shard:05d}"
            shards[place] = write_shard(folder / place, run)
            _drop_absent(folder / place)
        if shards:
            written[name] = _split_facts(folder, shards)
    return written


def open_written(folder: Path, written: Mapping[str, SplitFacts]) -> dict[str, StructureSet]:
    """Open what `write_splits` wrote."""
    return {
        name: open_split(folder, facts.shards, radii=EDGE_RADII, present=Path.exists)
        for name, facts in written.items()
    }


def _shard_numbers() -> Callable[[Shard], int]:
    """Numbers chunks that follow each other by the shard they belong to."""
    n_atoms = 0

    def number(chunk: Shard) -> int:
        nonlocal n_atoms
        before, n_atoms = n_atoms, n_atoms + int(chunk.n_atoms.sum())
        return before // MOST_ATOMS_IN_SHARD

    return number


def _drop_absent(folder: Path) -> None:
    for path in folder.iterdir():
        if is_absent(path):
            path.unlink()


def _split_facts(folder: Path, shards: dict[str, ShardFacts]) -> SplitFacts:
    structures = open_split(folder, shards, radii=EDGE_RADII, present=Path.exists)
    labelled = np.zeros(3, dtype=np.int64)
    for chunk in structures.chunks():
        labelled += [np.count_nonzero(chunk.labels & bit) for bit in (ENERGY, FORCES, STRESS)]
    return SplitFacts(
        shards=shards,
        n_energies=int(labelled[0]),
        n_forces=int(labelled[1]),
        n_stresses=int(labelled[2]),
        elements=tuple(chemical_symbols[z] for z in elements_of(structures)),
    )
