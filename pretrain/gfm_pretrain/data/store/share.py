"""One copy of a store on each node, in memory that the processes of the node share."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from gfm_pretrain.data.shard import Shard
from gfm_pretrain.data.store.store import Store
from gfm_pretrain.data.structure_set import StructureSet
from gfm_pretrain.process import World

ALIGNMENT = 64
"""Bytes; every column begins at a multiple, as wide as the widest vector of a CPU."""
SHARED_FOLDER = Path("/dev/shm")
"""Where Linux keeps the memory that processes share; what lies there may be limited."""

Place = tuple[str, int, str]
"""Split, number of the shard, column."""


def share_store(store: Store, world: World) -> Store:
    """The same store in memory, once on each node. Call on every rank.

    The columns are read by one rank of each node into an MPI shared window, and seen by all. They
    are checked before by whoever opened the store.

    Args:
        store: Opened on this rank.
        world: All ranks. One process alone reads the store into its own memory.

    Raises:
        ValueError: the ranks were not started by an MPI launcher, or the memory that processes may
            share is too small.
    """
    columns = {place: array for place, array in _columns(store) if _is_stored(array)}
    offsets, n_bytes = _lay_out(columns)
    if world.size == 1:
        memory = _allocate(n_bytes)
        _fill(memory, columns, offsets)
    elif world.launcher == "mpi":
        memory = _fill_window(columns, offsets, n_bytes)
    else:
        raise ValueError(
            f"stage: shared needs ranks started by mpiexec or srun with MPI, these were started by "
            f"{world.launcher}; use stage: mapped, which shares the pages of the files as well"
        )
    return _in_memory(store, _views(memory, columns, offsets))


def _columns(store: Store) -> Iterator[tuple[Place, np.ndarray]]:
    for split, structures in store.splits.items():
        for number, shard in enumerate(structures.shards):
            for column in fields(Shard):
                yield (split, number, column.name), getattr(shard, column.name)


def _is_stored(array: np.ndarray) -> bool:
    """Whether it has memory of its own, and is not one value for a column without a file."""
    return array.size > 0 and any(array.strides)


def _lay_out(columns: Mapping[Place, np.ndarray]) -> tuple[dict[Place, int], int]:
    """Where each column begins, and the size of all."""
    offsets, end = {}, 0
    for place, array in columns.items():
        offsets[place] = end
        end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    return offsets, end


def _allocate(n_bytes: int) -> np.ndarray:
    memory = np.empty(n_bytes + ALIGNMENT, dtype=np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + n_bytes]


def _fill(
    memory: np.ndarray, columns: Mapping[Place, np.ndarray], offsets: Mapping[Place, int]
) -> None:
    for place, array in columns.items():
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        memory[offsets[place] : offsets[place] + array.nbytes] = content


def _fill_window(
    columns: Mapping[Place, np.ndarray], offsets: Mapping[Place, int], n_bytes: int
) -> np.ndarray:
    from mpi4py import MPI

    node = MPI.Intracomm(MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED))
    if room := node.bcast(_missing_room(n_bytes) if node.rank == 0 else None):
        raise ValueError(room)
    window = MPI.Win.Allocate_shared(n_bytes if node.rank == 0 else 0, 1, comm=node)
    content: Any = window.Shared_query(0)[0]
    memory = np.frombuffer(content, dtype=np.uint8)
    if node.rank == 0:
        _fill(memory, columns, offsets)
    node.Barrier()
    return memory


def _missing_room(n_bytes: int) -> str | None:
    """What is wrong if the memory cannot be had: writing into it would end the process."""
    if not SHARED_FOLDER.is_dir() or (free := shutil.disk_usage(SHARED_FOLDER).free) >= n_bytes:
        return None
    return (
        f"stage: shared needs {n_bytes / 1e9:.2f} GB in {SHARED_FOLDER}, which has "
        f"{free / 1e9:.2f} GB left; enlarge it, or use stage: mapped"
    )


def _views(
    memory: np.ndarray, columns: Mapping[Place, np.ndarray], offsets: Mapping[Place, int]
) -> dict[Place, np.ndarray]:
    found = {}
    for place, array in columns.items():
        start = offsets[place]
        view = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        view.flags.writeable = False
        found[place] = view
    return found


def _in_memory(store: Store, views: Mapping[Place, np.ndarray]) -> Store:
    """The store with its columns replaced by views; those without a file stay."""
    splits = {}
    for split, structures in store.splits.items():
        shards = tuple(
            replace(shard, **{c: v for (s, n, c), v in views.items() if (s, n) == (split, number)})
            for number, shard in enumerate(structures.shards)
        )
        splits[split] = StructureSet(shards=shards, radii=structures.radii)
    return replace(store, splits=splits)
