"""Alexandria: crystals, layers and chains; relaxation paths or final structures.

Source: Schmidt et al., Mater. Today Phys. 48, 101560 (2024), doi:10.1016/j.mtphys.2024.101560.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from gfm_pretrain.data.sources.json_stream import Item, read_opening, stream_array, stream_object
from gfm_pretrain.data.sources.pymatgen import (
    PymatgenStructure,
    member,
    read_structure,
    to_energy,
    to_forces,
    to_stress,
)
from gfm_pretrain.data.sources.source import Block, Facts, Option, Options, Record, Refused, Source

ENTRIES = "entries"
"""The key that a file of final structures has, and one of relaxation paths has not."""
ENTRIES_PER_BLOCK = 10
"""Final structures; of relaxation paths a block holds one material, which has some ten steps."""
LEVELS = {
    "PBE": "PBE(+U)/VASP (Alexandria)",
    "PBEsol": "PBEsol/VASP (Alexandria)",
    "SCAN": "SCAN/VASP (Alexandria)",
}
"""Level of theory for each choice of the option `functional`."""

Reader = Callable[[str, Any], Iterator[Record | Refused]]
"""Reads the value under a key: the paths of one material, or one entry."""


def blocks(path: Path, options: Options) -> Iterator[Block]:  # noqa: ARG001 (of every source)
    """Go through the materials of a file, whichever of the two layouts it has.

    Raises:
        ValueError: the file is damaged or of neither layout; the message names it.
    """
    items, read = _open(path)
    length = ENTRIES_PER_BLOCK if read is _read_entry else 1
    while run := list(islice(items, length)):
        yield Block(read=partial(_read_run, read, run), done=run[-1].done)


def _read_run(read: Reader, run: list[Item]) -> Iterator[Record | Refused]:
    for item in run:
        yield from read(item.key, item.value)


def _open(path: Path) -> tuple[Iterator[Item], Reader]:
    """The first item is looked at here: in a file of another layout none would be readable."""
    key, kind = read_opening(path)
    if key == ENTRIES and kind is list:
        items, read, is_one = stream_array(path, ENTRIES), _read_entry, _is_entry
    else:
        items, read, is_one = stream_object(path), _read_paths, _is_paths
    first = next(items)
    if not is_one(first.value):
        raise ValueError(
            f"{path} is not of Alexandria: it must map ids to calculations with `steps`, or hold "
            f"`{ENTRIES}` with a `structure` each, and has something else under '{key}'"
        )
    return chain([first], items), read


def _is_paths(value: object) -> bool:
    first = value[:1] if isinstance(value, list) else [value]
    return all(isinstance(calculation, dict) and "steps" in calculation for calculation in first)


def _is_entry(value: object) -> bool:
    return isinstance(value, dict) and "structure" in value


def _read_paths(material: str, calculations: Any) -> Iterator[Record | Refused]:
    """Its calculations, which a file may give as a list or as the only one."""
    listed = calculations if isinstance(calculations, list) else [calculations]
    for number, calculation in enumerate(listed):
        identifier = f"{material}/{number}"
        try:
            steps = _read_steps(calculation)
        except ValueError as error:
            yield _refuse(identifier, error)
            continue
        for place, step in enumerate(steps):
            try:
                yield _read_step(step, f"{identifier}/{place}", material)
            except ValueError as error:
                yield _refuse(f"{identifier}/{place}", error)


def _read_steps(calculation: Any) -> list[Any]:
    steps = member(calculation, "steps", of="calculation")
    if not isinstance(steps, list):
        raise ValueError(f"`steps` must be a list, got {type(steps).__name__}")
    return steps


def _read_step(step: Any, identifier: str, material: str) -> Record:
    structure = read_structure(member(step, "structure", of="step"))
    labels = {name: step.get(name) for name in ("energy", "forces", "stress")}
    return _make_record(structure, identifier=identifier, group=material, **labels)


def _read_entry(place: str, entry: Any) -> Iterator[Record | Refused]:
    identifier = _identify(place, entry)
    try:
        structure = read_structure(member(entry, "structure", of="entry"))
        data = member(entry, "data", of="entry")
        yield _make_record(
            structure,
            identifier=identifier,
            group=identifier,
            energy=_total_energy(data),
            forces=structure.site_property("forces"),
            stress=data.get("stress"),
        )
    except ValueError as error:
        yield _refuse(identifier, error)


def _identify(place: str, entry: Any) -> str:
    fields = entry if isinstance(entry, dict) else {}
    data = fields.get("data")
    material = data.get("mat_id") if isinstance(data, dict) else None
    return str(material or fields.get("entry_id") or f"{ENTRIES}/{place}")


def _total_energy(data: Any) -> object:
    """`e_form` is measured from the elements, and `energy` of an entry may be corrected."""
    if not isinstance(data, dict) or "energy_total" not in data:
        raise ValueError("the entry has no `data.energy_total`, the energy the forces belong to")
    return data["energy_total"]


def _make_record(
    structure: PymatgenStructure,
    *,
    identifier: str,
    group: str,
    energy: object,
    forces: object,
    stress: object,
) -> Record:
    return Record(
        identifier=identifier,
        group=group,
        atomic_numbers=structure.atomic_numbers,
        positions=structure.positions,
        cell=structure.cell,
        pbc=np.ones(3, dtype=bool),  # as VASP calculated it, layers and chains too
        energy=to_energy(energy),
        forces=to_forces(forces, n_atoms=len(structure.positions)),
        stress=to_stress(stress),
    )


def _refuse(identifier: str, error: ValueError) -> Refused:
    return Refused(identifier=identifier, kind="unreadable", reason=str(error))


def _facts(options: Options) -> Facts:
    return Facts(
        level_of_theory=LEVELS[options["functional"]],
        description="Crystals, layers and chains of the Alexandria database; total energies as "
        "VASP gives them, whose derivatives the forces are.",
        licence="CC-BY-4.0",
        citation="Schmidt et al., Mater. Today Phys. 48, 101560 (2024), "
        "doi:10.1016/j.mtphys.2024.101560",
    )


SOURCE = Source(
    name="alexandria",
    layout="alexandria_*.json.bz2, relaxation paths or entries; eV, eV/Å, kB (VASP's sign)",
    keys={
        "atomic_numbers": "structure.sites.species",
        "positions": "structure.sites.abc, else xyz in Å",
        "cell": "structure.lattice.matrix in Å",
        "energy": "paths: energy in eV; entries: data.energy_total in eV",
        "forces": "paths: forces in eV/Å; entries: structure.sites.properties.forces in eV/Å",
        "stress": "paths: stress, entries: data.stress in kB, positive = compression",
    },
    facts=_facts,
    blocks=blocks,
    blocks_per_part=200,
    options={
        "functional": Option(
            help="which functional the file was calculated with; the files do not say it",
            choices=tuple(LEVELS),
        )
    },
)
