"""The unfinished store: parts that processes write side by side, each whole or not there."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt64

from gfm_pretrain.data.shard import Shard, make_shard
from gfm_pretrain.data.store.columns import map_shard, write_shard
from gfm_pretrain.data.store.manifest import ShardFacts, StoreError
from gfm_pretrain.data.structure import LabelledStructure
from gfm_pretrain.durable import UNFINISHED, flush, publish_folder, read_sealed, write_sealed

PART = "part.json"
MOST_ATOMS_IN_MEMORY = 400_000
"""Atoms that a part holds before it writes them to a shard of its own: 100 MB."""
MOST_STRUCTURES_IN_MEMORY = 20_000
"""The same for structures: 100 MB of objects."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A structure that is kept, and what the import knows of it."""

    structure: LabelledStructure
    n_edges: tuple[int, ...]
    """Directed edges inside each of the radii of the store."""
    group: int
    """Hash of its group."""
    split: int
    """As published; see `splits.py`."""
    fingerprint: int
    """Hash of its geometry."""


@dataclass(eq=False)
class PartWriter:
    """Collects the structures of one part and writes them."""

    folder: Path
    """Where the part will be."""
    entries: list[Entry] = field(default_factory=list)
    shards: dict[str, ShardFacts] = field(default_factory=dict)
    n_atoms: int = 0

    @property
    def unfinished(self) -> Path:
        """Where the part is while it is being written."""
        return self.folder.with_name(self.folder.name + UNFINISHED)

    def add(self, entry: Entry) -> None:
        """Keep a structure."""
        self.entries.append(entry)
        self.n_atoms += entry.structure.n_atoms
        if self.n_atoms >= MOST_ATOMS_IN_MEMORY or len(self.entries) >= MOST_STRUCTURES_IN_MEMORY:
            self._write_shard()

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Make the part visible, with plain values that are to be merged."""
        self._write_shard()
        self.unfinished.mkdir(parents=True, exist_ok=True)
        shards = {name: [f.n_structures, f.n_atoms, f.n_letters] for name, f in self.shards.items()}
        write_sealed(self.unfinished / PART, {**facts, "shards": shards})
        publish_folder(self.unfinished, self.folder)

    def _write_shard(self) -> None:
        if not self.shards:
            shutil.rmtree(self.unfinished, ignore_errors=True)
        if self.entries:
            folder = self.unfinished / f"{len(self.shards):05d}"
            self.shards[folder.name] = write_shard(folder, [_to_shard(self.entries)])
            _write_array(folder / "split.npy", [e.split for e in self.entries], np.uint8)
            fingerprints = [e.fingerprint for e in self.entries]
            _write_array(folder / "fingerprint.npy", fingerprints, np.uint64)
        self.entries, self.n_atoms = [], 0


@dataclass(frozen=True, kw_only=True)
class PartShard:
    """One shard of a part; mapped while it is used only, since files that are open are few."""

    folder: Path
    """Where it lies."""
    facts: ShardFacts
    """What it holds."""

    def map(self) -> Shard:
        """Its structures."""
        return map_shard(self.folder, self.facts, present=Path.exists)

    def splits(self) -> UInt8[np.ndarray, " structures"]:
        """The published split of each structure."""
        return np.load(self.folder / "split.npy")

    def fingerprints(self) -> UInt64[np.ndarray, " structures"]:
        """Hash of the geometry of each structure."""
        return np.load(self.folder / "fingerprint.npy")


def read_part(folder: Path) -> dict[str, Any]:
    """The plain values that a part was finished with.

    Raises:
        StoreError: the part is damaged.
    """
    try:
        return read_sealed(folder / PART)
    except (OSError, ValueError) as error:
        raise StoreError(f"{error}; delete {folder} and import again, the rest is kept") from error


def shards_of(folder: Path) -> Iterator[PartShard]:
    """The shards of a part, in order.

    Raises:
        StoreError: the part is damaged.
    """
    for name, (n_structures, n_atoms, n_letters) in read_part(folder)["shards"].items():
        facts = ShardFacts(n_structures=n_structures, n_atoms=n_atoms, n_letters=n_letters)
        yield PartShard(folder=folder / name, facts=facts)


def _to_shard(entries: list[Entry]) -> Shard:
    return make_shard(
        [entry.structure for entry in entries],
        n_edges=np.array([entry.n_edges for entry in entries], dtype=np.uint32),
        groups=np.array([entry.group for entry in entries], dtype=np.uint64),
    )


def _write_array(path: Path, values: list[int], dtype: type[np.generic]) -> None:
    np.save(path, np.array(values, dtype=dtype))
    flush(path)
