"""A store: the structures of one source on disk, refused by name where a file is not right."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gfm_models.checkpoint import file_sha256

from gfm_pretrain.data.store.columns import map_shard
from gfm_pretrain.data.store.manifest import (
    MANIFEST,
    Manifest,
    ShardFacts,
    StoreError,
    read_manifest,
)
from gfm_pretrain.data.store.open_files import allow_open_files
from gfm_pretrain.data.structure_set import StructureSet


@dataclass(frozen=True, kw_only=True, eq=False)
class Store:
    """An opened store. Its arrays are mapped files: processes on a node share their memory.

    Sent to another process it is opened there again, and nothing is copied.
    """

    folder: Path
    """Where it lies."""
    manifest: Manifest
    """What it says of itself."""
    splits: Mapping[str, StructureSet]
    """Those there are of train, valid and test."""

    def __reduce__(self) -> tuple[Callable[[Path], "Store"], tuple[Path]]:
        return _reopen, (self.folder,)


def is_store(path: Path) -> bool:
    """Whether a path is the folder of a store, and not a file of structures."""
    return path.is_dir() and (path / MANIFEST).exists()


def open_store(folder: str | Path, *, verify: bool = True) -> Store:
    """Open a store for reading.

    Every process of a run opens it; `check_content` shares out the reading of all files that
    `verify` does.

    Args:
        folder: As `gfm data import` made it.
        verify: Read every file once and compare its SHA-256. Without it only presence, size, type
            and shape are checked, and a flipped bit is a wrong number.

    Raises:
        StoreError: the folder is no store, or a file is missing, truncated or changed.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    check_sizes(folder, manifest)
    allow_open_files(len(manifest.files))
    if verify:
        check_content(folder, manifest)
    return Store(folder=folder, manifest=manifest, splits=_open_splits(folder, manifest))


def check_sizes(folder: Path, manifest: Manifest) -> None:
    """Look whether every file is there and as long as it was.

    Raises:
        StoreError: naming the first that is not.
    """
    for name, facts in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise StoreError(f"{path} is missing; import the source again")
        if path.stat().st_size != facts.bytes:
            raise StoreError(
                f"{path} is damaged: it must have {facts.bytes} bytes, found "
                f"{path.stat().st_size}; import the source again"
            )


def check_content(folder: Path, manifest: Manifest, *, rank: int = 0, n_ranks: int = 1) -> None:
    """Compare the SHA-256 of every file, or of this rank's share of all bytes.

    Raises:
        StoreError: naming the first that has changed.
    """
    by_size = sorted(manifest.files, key=lambda name: (-manifest.files[name].bytes, name))
    for name in by_size[rank::n_ranks]:
        if file_sha256(folder / name) != manifest.files[name].sha256:
            raise StoreError(
                f"{folder / name} is damaged: its content has changed since the import; "
                "import the source again"
            )


def open_split(
    folder: Path,
    shards: Mapping[str, ShardFacts],
    *,
    radii: tuple[float, ...],
    present: Callable[[Path], bool],
) -> StructureSet:
    """Map the shards of a split.

    Args:
        folder: Of the store.
        shards: By folder inside that one.
        radii: Å; of the cost column.
        present: Whether the store has a file.

    Raises:
        StoreError: a file is missing, or is not what is said of it.
    """
    mapped = (map_shard(folder / name, facts, present=present) for name, facts in shards.items())
    return StructureSet(shards=tuple(mapped), radii=radii)


def _reopen(folder: Path) -> Store:
    return open_store(folder, verify=False)


def _open_splits(folder: Path, manifest: Manifest) -> dict[str, StructureSet]:
    def present(path: Path) -> bool:
        return path.relative_to(folder).as_posix() in manifest.files

    return {
        name: open_split(folder, facts.shards, radii=manifest.radii, present=present)
        for name, facts in manifest.splits.items()
    }
