"""What the sources kept in HDF5 share: a file that says when it is damaged, and rows of datasets.

No file stays open between two blocks: each is read through an opening of its own, so that blocks
may be read late, in any order and after a fork.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType

import h5py
import numpy as np

from gfm_pretrain.data.sources.source import Record, Refused

RUN = 1000
"""Configurations that are read at a time: some MB of the largest molecules."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Datasets of a group that hold the configurations of one molecule, one in each row.

    The elements are in `atomic_numbers`, shape [atoms], the same for all rows.
    """

    positions: str
    """[rows, atoms, 3], Å."""
    energy: str
    """[rows], in `unit`."""
    forces: str | None
    """[rows, atoms, 3], in `unit` per Å; None where there are none."""
    unit: float
    """eV."""

    @property
    def names(self) -> list[str]:
        """All of the datasets."""
        return list(self.shapes(n_rows=0, n_atoms=0))

    def shapes(self, *, n_rows: int, n_atoms: int) -> dict[str, tuple[int, ...]]:
        """Shape that each of the datasets must have."""
        shapes = {
            "atomic_numbers": (n_atoms,),
            self.positions: (n_rows, n_atoms, 3),
            self.energy: (n_rows,),
        }
        return shapes if self.forces is None else {**shapes, self.forces: (n_rows, n_atoms, 3)}


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading; damage found while it is read is an error that names it, too.

    Raises:
        ValueError: this is no HDF5 file, or it is damaged, or one of its links leads nowhere.
        FileNotFoundError: there is no such file.
    """
    try:
        # Nobody writes here, and some parallel file systems know no locks.
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise type(error)(error.errno, os.strerror(error.errno or 0), str(path)) from error
    except (OSError, RuntimeError) as error:
        found = " ".join(str(error).split())
        raise ValueError(
            f"{path}: no HDF5 file, still packed, or damaged; unpack or download it again ({found})"
        ) from error


def list_names(group: h5py.Group) -> list[str]:
    """What is in a group, in the order of the names."""
    return [str(name) for name in group]


def find_group(parent: h5py.Group, name: str) -> h5py.Group | None:
    """The group of that name or path; None where there is none."""
    found = _find(parent, name)
    return found if isinstance(found, h5py.Group) else None


def find_dataset(parent: h5py.Group, name: str) -> h5py.Dataset | None:
    """The dataset of that name; None where there is none."""
    found = _find(parent, name)
    return found if isinstance(found, h5py.Dataset) else None


def _find(parent: h5py.Group, name: str) -> object:
    """Unlike `parent.get(name)`, which takes what is damaged or a lost link for absent."""
    try:
        return parent[name]
    except KeyError as error:
        if name not in parent:
            return None
        raise OSError(f"{parent.name}/{name}: {error.args[0]}".replace("//", "/")) from error


def iterate_groups(parent: h5py.Group) -> Iterator[tuple[str, h5py.Group]]:
    """The groups in a group and their names, in the order of the names."""
    for name in list_names(parent):
        group = find_group(parent, name)
        if group is not None:
            yield name, group


def count_rows(group: h5py.Group, layout: Layout) -> int:
    """How many configurations a group has energies for; 1 where that cannot be told."""
    energy = find_dataset(group, layout.energy)
    return energy.shape[0] if energy is not None and energy.shape else 1


def split_rows(n_rows: int) -> Iterator[range]:
    """All rows, a bounded number at a time."""
    for start in range(0, n_rows, RUN):
        yield range(start, min(start + RUN, n_rows))


def open_datasets(group: h5py.Group, names: Iterable[str]) -> dict[str, h5py.Dataset]:
    """Those datasets that a group has, by name; to open one costs more than to read a small one."""
    found = {name: find_dataset(group, name) for name in names}
    return {name: dataset for name, dataset in found.items() if dataset is not None}


def find_fault(
    datasets: Mapping[str, h5py.Dataset], shapes: Mapping[str, tuple[int, ...]]
) -> str | None:
    """Which dataset is missing or has another shape, in one line; None if all are well."""
    for name, shape in shapes.items():
        if name not in datasets:
            return f"there is no dataset `{name}`"
        if datasets[name].shape != shape:
            return f"`{name}` must have shape {list(shape)}, got {list(datasets[name].shape or ())}"
    return None


def count_values(dataset: h5py.Dataset | None) -> int:
    """How many values a dataset holds; 0 where it is missing."""
    return 0 if dataset is None else int(dataset.size or 0)


def read_array(dataset: h5py.Dataset, rows: slice | EllipsisType = ...) -> np.ndarray:
    """Some rows of a dataset in double precision."""
    return np.asarray(dataset[rows], dtype=np.float64)


def read_rows(
    group: h5py.Group,
    layout: Layout,
    *,
    rows: range,
    n_rows: int,
    name: str,
    split: str | None = None,
) -> Iterator[Record | Refused]:
    """Read neighbouring configurations of a molecule.

    Args:
        group: Holds the datasets.
        layout: Says how they are called.
        rows: Which configurations.
        n_rows: How many each dataset must have; if one has not, all of `rows` are refused.
        name: Group of the records; their identifiers are `<name>/<row>`.
        split: Published split they belong to.
    """
    datasets = open_datasets(group, layout.names)
    n_atoms = count_values(datasets.get("atomic_numbers"))
    fault = find_fault(datasets, layout.shapes(n_rows=n_rows, n_atoms=n_atoms))
    if fault:
        for row in rows:
            yield Refused(identifier=f"{name}/{row}", kind="unreadable", reason=fault)
        return
    run = slice(rows.start, rows.stop)
    numbers = read_array(datasets["atomic_numbers"]).astype(np.int64)
    positions = read_array(datasets[layout.positions], run)
    energies = read_array(datasets[layout.energy], run) * layout.unit
    forces = read_array(datasets[layout.forces], run) * layout.unit if layout.forces else None
    for place, row in enumerate(rows):
        yield Record(
            identifier=f"{name}/{row}",
            group=name,
            split=split,
            atomic_numbers=numbers,
            positions=positions[place],
            energy=float(energies[place]),
            forces=None if forces is None else forces[place],
        )
