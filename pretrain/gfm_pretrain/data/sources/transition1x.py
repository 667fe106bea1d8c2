"""Transition1x: reaction paths of molecules of H, C, N and O, with the published split.

`Transition1x.h5` holds formula/reaction under `data`, and again, as links, under `train`, `val`
and `test`. Each reaction is read once, through the split it belongs to; one that is under `data`
only has no split. A group of a reaction holds its path and, as subgroups of one configuration
each, its reactant, transition state and product, which may repeat frames of the path.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py

from gfm_pretrain.data.sources.hdf5 import (
    Layout,
    count_rows,
    find_group,
    list_names,
    open_hdf5,
    read_rows,
    split_rows,
)
from gfm_pretrain.data.sources.source import Block, Facts, Options, Record, Refused, Source

SPLITS = {"train": "train", "val": "valid", "test": "test", "data": None}
"""Split of the reactions in each group of the file, in the order in which they are read."""

STATES = ("reactant", "transition_state", "product")
LAYOUT = Layout(
    positions="positions",
    energy="wB97x_6-31G(d).energy",
    forces="wB97x_6-31G(d).forces",
    unit=1.0,
)


def blocks(path: Path, options: Options) -> Iterator[Block]:  # noqa: ARG001 (of every source)
    """One reaction after the other, its path before its three states.

    Raises:
        ValueError: the file is damaged or of another layout.
    """
    reactions = _list_reactions(path)
    for done, (name, place) in enumerate(reactions.items(), start=1):
        read = partial(_read_reaction, path, name=name, place=place)
        yield Block(read=read, done=done / len(reactions))


def _list_reactions(path: Path) -> dict[str, str]:
    """The group of the file in which each formula/reaction is read."""
    places: dict[str, str] = {}
    with open_hdf5(path) as file:
        for place in filter(file.__contains__, SPLITS):
            for name in _names(path, file, place):
                places.setdefault(name, place)
        if not places:
            raise ValueError(
                f"{path}: no reactions in any of the groups {', '.join(SPLITS)}; "
                f"this is no Transition1x file, it begins with {list_names(file)[:3]}"
            )
    return places


def _names(path: Path, file: h5py.File, place: str) -> Iterator[str]:
    formulas = find_group(file, place)
    for formula in list_names(formulas) if formulas else ():
        reactions = find_group(file, f"{place}/{formula}")
        if reactions is None:
            raise ValueError(
                f"{path}: `{place}/{formula}` must be a group of reactions; download it again"
            )
        yield from (f"{formula}/{reaction}" for reaction in list_names(reactions))


def _read_reaction(path: Path, *, name: str, place: str) -> Iterator[Record | Refused]:
    with open_hdf5(path) as file:
        reaction = find_group(file, f"{place}/{name}")
        if reaction is None:
            reason = f"`{place}/{name}` is not a group"
            yield Refused(identifier=name, kind="unreadable", reason=reason)
            return
        yield from _read_path(reaction, name, SPLITS[place])
        for state in filter(reaction.__contains__, STATES):
            yield _read_state(reaction, state, name, SPLITS[place])


def _read_path(reaction: h5py.Group, name: str, split: str | None) -> Iterator[Record | Refused]:
    n_rows = count_rows(reaction, LAYOUT)
    for rows in split_rows(n_rows):
        yield from read_rows(reaction, LAYOUT, rows=rows, n_rows=n_rows, name=name, split=split)


def _read_state(reaction: h5py.Group, state: str, name: str, split: str | None) -> Record | Refused:
    identifier = f"{name}/{state}"
    group = find_group(reaction, state)
    if group is None:
        return Refused(identifier=identifier, kind="unreadable", reason="this is not a group")
    [found] = read_rows(group, LAYOUT, rows=range(1), n_rows=1, name=name, split=split)
    return replace(found, identifier=identifier)


def _facts(options: Options) -> Facts:  # noqa: ARG001 (of every source)
    return Facts(
        level_of_theory="wB97X/6-31G(d)",
        description="Transition1x, paths, reactants, transition states and products of reactions "
        "of molecules of H, C, N and O, wB97X/6-31G(d), with the published split",
        licence="CC-BY-4.0",
        citation="Schreiner et al., Sci. Data 9, 779 (2022), doi:10.1038/s41597-022-01870-w",
    )


SOURCE = Source(
    name="transition1x",
    layout="Transition1x.h5 (HDF5): data, train, val, test/formula/reaction; eV, Å, eV/Å",
    keys={
        "atomic_numbers": "atomic_numbers",
        "positions": "positions (Å)",
        "energy": "wB97x_6-31G(d).energy (eV)",
        "forces": "wB97x_6-31G(d).forces (eV/Å)",
        "split": "train, val, test",
    },
    facts=_facts,
    blocks=blocks,
    blocks_per_part=5,
)
"""Group: formula/reaction, the smallest unit that the published split keeps together."""
