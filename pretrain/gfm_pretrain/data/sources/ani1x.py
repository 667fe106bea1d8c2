"""ANI-1x: organic molecules of H, C, N and O at up to three levels of theory in one file.

`ani1x-release.h5` has one group for each formula. A level holds NaN where it was not computed;
such configurations are no part of its data set and are passed over without being refused, since
they would be nine in ten of the smaller levels. A level counts as computed where its energy is a
number.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from ase.units import Hartree

from gfm_pretrain.data.sources.hdf5 import (
    Layout,
    count_rows,
    find_dataset,
    find_group,
    iterate_groups,
    open_hdf5,
    read_rows,
    split_rows,
)
from gfm_pretrain.data.sources.source import Block, Facts, Option, Options, Record, Refused, Source


def _layout(energy: str, forces: str | None) -> Layout:
    return Layout(positions="coordinates", energy=energy, forces=forces, unit=Hartree)


LEVELS = {
    "dz": _layout("wb97x_dz.energy", "wb97x_dz.forces"),
    "tz": _layout("wb97x_tz.energy", "wb97x_tz.forces"),
    "ccx": _layout("ccsd(t)_cbs.energy", None),
}
"""By the value of the option `level`."""

THEORIES = {"dz": "wB97X/6-31G(d)", "tz": "wB97X/def2-TZVPP", "ccx": "CCSD(T)*/CBS"}


def blocks(path: Path, options: Options) -> Iterator[Block]:
    """Runs of at most 1000 configurations of one formula, of which some may lack the level.

    Raises:
        ValueError: the file is damaged, or has no energies of the level.
    """
    layout = LEVELS[options["level"]]
    counts = _count_configurations(path, layout)
    total, done = sum(counts.values()), 0
    for formula, n_rows in counts.items():
        for rows in split_rows(n_rows):
            done += len(rows)
            read = partial(_read, path, layout, formula=formula, rows=rows, n_rows=n_rows)
            yield Block(read=read, done=done / total)


def _count_configurations(path: Path, layout: Layout) -> dict[str, int]:
    """Number of configurations of each formula that has the level at all."""
    with open_hdf5(path) as file:
        counts = {
            formula: count_rows(group, layout)
            for formula, group in iterate_groups(file)
            if find_dataset(group, layout.energy) is not None
        }
        if counts:
            return counts
        found = [
            level
            for level, other in LEVELS.items()
            if any(other.energy in group for _, group in iterate_groups(file))
        ]
    raise ValueError(
        f"{path}: no group has a dataset `{layout.energy}`; option 'level' can be one of: "
        f"{', '.join(found) or 'none, this is no ANI-1x file'}"
    )


def _read(
    path: Path, layout: Layout, *, formula: str, rows: range, n_rows: int
) -> Iterator[Record | Refused]:
    with open_hdf5(path) as file:
        group = find_group(file, formula)
        assert group is not None
        for found in read_rows(group, layout, rows=rows, n_rows=n_rows, name=formula):
            computed = _select_computed(found) if isinstance(found, Record) else found
            if computed is not None:
                yield computed


def _select_computed(record: Record) -> Record | Refused | None:
    """What the level has of a configuration; None where it was not computed."""
    if record.energy is None or np.isnan(record.energy):
        return None
    if record.forces is None:
        return record
    missing = np.isnan(record.forces)
    if missing.all():
        return replace(record, forces=None)
    if missing.any():
        reason = f"{missing.sum()} of {missing.size} components of the forces are NaN"
        return Refused(identifier=record.identifier, kind="unreadable", reason=reason)
    return record


def _facts(options: Options) -> Facts:
    return Facts(
        level_of_theory=THEORIES[options["level"]],
        description=f"ANI-1x, molecules of H, C, N and O, {THEORIES[options['level']]}, "
        f"energies as published in `{LEVELS[options['level']].energy}`; "
        "isomers of one formula are one group, as the file does not tell them apart",
        licence="CC0-1.0",
        citation="Smith et al., Sci. Data 7, 134 (2020), doi:10.1038/s41597-020-0473-z",
    )


SOURCE = Source(
    name="ani1x",
    layout="ani1x-release.h5 (HDF5): a group for each formula; Hartree, Å, Hartree/Å",
    keys={
        "atomic_numbers": "atomic_numbers",
        "positions": "coordinates (Å)",
        "energy": "wb97x_dz.energy, wb97x_tz.energy or ccsd(t)_cbs.energy (Hartree)",
        "forces": "wb97x_dz.forces or wb97x_tz.forces (Hartree/Å)",
    },
    facts=_facts,
    blocks=blocks,
    blocks_per_part=5,
    options={
        "level": Option(
            help="dz: wB97X/6-31G(d); tz: wB97X/def2-TZVPP; ccx: CCSD(T)*/CBS, energies only",
            choices=tuple(LEVELS),
        )
    },
)
"""Group: the formula. The file has no finer one; isomers and conformers of a formula share it."""
