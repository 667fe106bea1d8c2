"""The files of a shard: one `.npy` for each column, written in a stream and mapped for reading."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from gfm_pretrain.data.shard import COLUMNS, Column, Shard
from gfm_pretrain.data.store.manifest import ShardFacts, StoreError
from gfm_pretrain.durable import flush

HEADER_BYTES = 128
"""Of every file: what numpy needs for its own, with room for any length."""


class ColumnWriter:
    """Writes one column row by row; the length is filled in at the end."""

    def __init__(self, path: Path, dtype: str) -> None:
        self.path = path
        self.dtype = np.dtype(dtype)
        self.n_rows = 0
        self.row: tuple[int, ...] = ()
        self.file = path.open("wb")
        self.file.write(b"\0" * HEADER_BYTES)

    def write(self, rows: np.ndarray) -> None:
        """Append rows, in the precision of the column."""
        self.row = rows.shape[1:]
        self.n_rows += len(rows)
        self.file.write(np.ascontiguousarray(rows, dtype=self.dtype).data)

    def close(self) -> None:
        """Write the header and flush the file."""
        self.file.seek(0)
        npy.write_array_header_1_0(
            self.file,
            {"descr": self.dtype.str, "fortran_order": False, "shape": (self.n_rows, *self.row)},
        )
        assert self.file.tell() == HEADER_BYTES
        self.file.close()
        flush(self.path)


def write_shard(folder: Path, chunks: Iterable[Shard]) -> ShardFacts:
    """Write structures into a new folder, one file for each column.

    Raises:
        FileExistsError: the folder is there already.
    """
    folder.mkdir(parents=True)
    writers = {name: ColumnWriter(folder / f"{name}.npy", c.dtype) for name, c in COLUMNS.items()}
    ends = {"first_atom": 0, "first_letter": 0}
    for name in ends:
        writers[name].write(np.zeros(1, dtype=np.int64))
    for chunk in chunks:
        for name, rows in _rows_to_write(chunk, ends).items():
            writers[name].write(rows)
    for writer in writers.values():
        writer.close()
    return ShardFacts(
        n_structures=writers["energy"].n_rows,
        n_atoms=ends["first_atom"],
        n_letters=ends["first_letter"],
    )


def map_shard(folder: Path, facts: ShardFacts, *, present: Callable[[Path], bool]) -> Shard:
    """Map the files of a shard into memory; nothing is read yet.

    Args:
        folder: Of the shard.
        facts: What the manifest says of it.
        present: Whether the store has a file; columns without one hold what absent labels are.

    Raises:
        StoreError: a file is missing, or is not what the manifest says.
    """
    arrays = {}
    for name, column in COLUMNS.items():
        path = folder / f"{name}.npy"
        n_rows = _n_rows(column, facts)
        if present(path):
            arrays[name] = _map(path, column, n_rows)
        elif column.absent is not None:
            empty = np.array(column.absent, dtype=column.dtype)
            arrays[name] = np.broadcast_to(empty, (n_rows, *column.row))
        else:
            raise StoreError(f"{path} is missing; import the source again")
    return Shard(**arrays)


def is_absent(path: Path) -> bool:
    """Whether a column that was written holds nothing but absent values."""
    column = COLUMNS[path.stem]
    if column.absent is None:
        return False
    rows = np.load(path, mmap_mode="r")
    nothing = np.isnan if np.isnan(column.absent) else np.logical_not
    return all(nothing(rows[i : i + 65536]).all() for i in range(0, len(rows), 65536))


def _rows_to_write(chunk: Shard, ends: dict[str, int]) -> dict[str, np.ndarray]:
    """The rows of each column that a chunk adds; `ends` moves on."""
    letters = slice(int(chunk.first_letter[0]), int(chunk.first_letter[-1]))
    within = {"atoms": chunk.atoms, "letters": letters, "structures": slice(None)}
    rows = {n: getattr(chunk, n)[within[c.counts]] for n, c in COLUMNS.items() if n not in ends}
    for name in ends:
        first = getattr(chunk, name)
        rows[name] = first[1:] - first[0] + ends[name]
        ends[name] += int(first[-1] - first[0])
    return rows


def _n_rows(column: Column, facts: ShardFacts) -> int:
    return {
        "structures": facts.n_structures,
        "ends": facts.n_structures + 1,
        "atoms": facts.n_atoms,
        "letters": facts.n_letters,
    }[column.counts]


def _map(path: Path, column: Column, n_rows: int) -> np.ndarray:
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is damaged: {error}; import the source again") from error
    row = mapped.shape[1:] if -1 in column.row else column.row
    if mapped.dtype != np.dtype(column.dtype) or mapped.shape != (n_rows, *row):
        raise StoreError(
            f"{path} is damaged: it must be {column.dtype} {[n_rows, *column.row]}, found "
            f"{mapped.dtype} {list(mapped.shape)}; import the source again"
        )
    return np.asarray(mapped)
