"""QM7-X: equilibrium and displaced structures of small molecules of H, C, N, O, S and Cl.

Eight files, `1000.hdf5` to `8000.hdf5`, hold a group for each molecule and in it one for each
geometry: `Geom-m1-i1-c1-opt` is an equilibrium, `Geom-m1-i1-c1-d7` is displaced from it. The list
of duplicated equilibria, `DupMols.dat`, is heeded where it lies beside the file.
"""

import re
from collections.abc import Iterator, Mapping, Set
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from gfm_pretrain.data.sources.hdf5 import (
    count_values,
    find_fault,
    find_group,
    iterate_groups,
    list_names,
    open_datasets,
    open_hdf5,
    read_array,
)
from gfm_pretrain.data.sources.source import Block, Facts, Option, Options, Record, Refused, Source

LEVELS = {"PBE0+MBD": ("ePBE0+MBD", "totFOR"), "PBE0": ("ePBE0", "pbe0FOR")}
"""Datasets of energy and forces that belong together, by the value of the option `level`."""

DUPLICATES = "DupMols.dat"
KIND_OF_GEOMETRY = re.compile(r"-(opt|d\d+)$")


def blocks(path: Path, options: Options) -> Iterator[Block]:
    """The geometries of one molecule after the other.

    Raises:
        ValueError: the file or the list of duplicates is damaged or of another layout.
    """
    duplicates = _read_duplicates(path.with_name(DUPLICATES))
    counts = _count_geometries(path)
    total, done = sum(counts.values()), 0
    for molecule, count in counts.items():
        done += count
        read = partial(_read_molecule, path, molecule, LEVELS[options["level"]], duplicates)
        yield Block(read=read, done=done / total)


def _read_duplicates(path: Path) -> Set[str]:
    """Names of listed geometries, those of equilibria without their ending."""
    if not path.exists():
        return frozenset()
    names = path.read_text(encoding="utf-8", errors="replace").split()
    for name in names:
        if not name.startswith("Geom-"):
            raise ValueError(
                f"{path}: '{name}' is not the name of a geometry, as `Geom-m1-i1-c1-opt`; "
                "download it again"
            )
    return frozenset(name.removesuffix("-opt") for name in names)


def _count_geometries(path: Path) -> dict[str, int]:
    """Number of geometries of each molecule that has any."""
    with open_hdf5(path) as file:
        counts = {name: len(group) for name, group in iterate_groups(file) if len(group)}
        first = find_group(file, next(iter(counts), ""))
        if first is None or not list_names(first)[0].startswith("Geom-"):
            raise ValueError(
                f"{path}: no group of a molecule with geometries named `Geom-…`; "
                f"this is no QM7-X file, it begins with {list_names(file)[:3]}"
            )
        return counts


def _read_molecule(
    path: Path, molecule: str, level: tuple[str, str], duplicates: Set[str]
) -> Iterator[Record | Refused]:
    with open_hdf5(path) as file:
        geometries = find_group(file, molecule)
        assert geometries is not None
        for name in list_names(geometries):
            identifier = f"{molecule}/{name}"
            equilibrium = KIND_OF_GEOMETRY.sub("", name)
            if name in duplicates or equilibrium in duplicates:
                reason = f"listed in {DUPLICATES}, itself or its equilibrium {equilibrium}"
                yield Refused(identifier=identifier, kind="duplicate", reason=reason)
            else:
                yield _read_geometry(find_group(geometries, name), molecule, identifier, level)


def _read_geometry(
    geometry: h5py.Group | None, molecule: str, identifier: str, level: tuple[str, str]
) -> Record | Refused:
    energy, forces = level
    datasets = open_datasets(geometry, ("atNUM", "atXYZ", energy, forces)) if geometry else {}
    fault = _find_fault(datasets, energy, forces)
    if fault:
        return Refused(identifier=identifier, kind="unreadable", reason=fault)
    return Record(
        identifier=identifier,
        group=molecule,
        atomic_numbers=read_array(datasets["atNUM"]).astype(np.int64),
        positions=read_array(datasets["atXYZ"]),
        energy=read_array(datasets[energy]).item() if energy in datasets else None,
        forces=read_array(datasets[forces]) if forces in datasets else None,
    )


def _find_fault(datasets: Mapping[str, h5py.Dataset], energy: str, forces: str) -> str | None:
    """What is wrong with a geometry; a label may be missing, unless both are."""
    n_atoms = count_values(datasets.get("atNUM"))
    shapes = {"atNUM": (n_atoms,), "atXYZ": (n_atoms, 3)}
    if energy not in datasets and forces not in datasets:
        return f"there is neither `{energy}` nor `{forces}`"
    if energy in datasets:
        shapes[energy] = () if datasets[energy].shape == () else (1,)
    if forces in datasets:
        shapes[forces] = (n_atoms, 3)
    return find_fault(datasets, shapes)


def _facts(options: Options) -> Facts:
    energy, forces = LEVELS[options["level"]]
    return Facts(
        level_of_theory=options["level"],
        description="QM7-X, molecules of H, C, N, O, S and Cl near and away from equilibrium, "
        f"{options['level']}, energy `{energy}` with forces `{forces}`",
        licence="CC-BY-4.0",
        citation="Hoja et al., Sci. Data 8, 43 (2021), doi:10.1038/s41597-021-00812-2",
    )


SOURCE = Source(
    name="qm7x",
    layout=f"1000.hdf5 … 8000.hdf5, {DUPLICATES} beside them: molecule/geometry; eV, Å, eV/Å",
    keys={
        "atomic_numbers": "atNUM",
        "positions": "atXYZ (Å)",
        "energy": "ePBE0+MBD or ePBE0 (eV)",
        "forces": "totFOR with ePBE0+MBD, pbe0FOR with ePBE0 (eV/Å)",
    },
    facts=_facts,
    blocks=blocks,
    blocks_per_part=8,
    options={
        "level": Option(
            help="PBE0 with or without many-body dispersion, energy and forces alike",
            choices=tuple(LEVELS),
        )
    },
)
"""Group: the molecule, with all its isomers, conformers and displaced structures."""
