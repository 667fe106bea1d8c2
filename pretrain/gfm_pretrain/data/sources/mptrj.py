"""MPtrj: relaxations of the Materials Project, PBE and PBE+U.

Source: Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi:10.1038/s42256-023-00716-3.
"""

import re
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from gfm_pretrain.data.sources.json_stream import Item, read_opening, stream_object
from gfm_pretrain.data.sources.pymatgen import (
    member,
    read_structure,
    to_energy,
    to_forces,
    to_stress,
)
from gfm_pretrain.data.sources.source import Block, Facts, Option, Options, Record, Refused, Source

ENERGY_KEYS = {"uncorrected": "uncorrected_total_energy", "corrected": "corrected_total_energy"}
"""Key of a frame for each choice of the option `energy`."""
DESCRIPTIONS = {
    "uncorrected": "Relaxations of the Materials Project; energies as VASP gives them, "
    "uncorrected, whose derivatives the forces are.",
    "corrected": "Relaxations of the Materials Project; energies with the MP2020 corrections, "
    "which the forces are without.",
}
_FRAME = re.compile(r"(.+)-(\d+)-(\d+)")
"""Task, calculation, ionic step."""


def blocks(path: Path, options: Options) -> Iterator[Block]:
    """Go through the materials of `MPtrj_2022.9_full.json`.

    Raises:
        ValueError: the file is damaged or of another layout; the message names it.
    """
    energy_key = ENERGY_KEYS[options["energy"]]
    for item in _materials(path):
        read = partial(_read_material, item.key, item.value, energy_key)
        yield Block(read=read, done=item.done)


def _materials(path: Path) -> Iterator[Item]:
    """The first is looked at here, so that a file of another layout is not refused bit by bit."""
    key, kind = read_opening(path)
    if kind is dict:
        materials = stream_object(path)
        first = next(materials)
        if any(isinstance(f, dict) and "structure" in f for f in first.value.values()):
            return chain([first], materials)
    raise ValueError(
        f"{path} is not of MPtrj: it must map material → frame → structure, energies, force and "
        f"stress, and has something else under '{key}'"
    )


def _read_material(material: str, frames: object, energy_key: str) -> Iterator[Record | Refused]:
    """Its frames, each trajectory in order."""
    if not isinstance(frames, dict):
        reason = f"the material must be an object of frames, got {type(frames).__name__}"
        yield Refused(identifier=material, kind="unreadable", reason=reason)
        return
    for frame in sorted(frames, key=_place):
        try:
            yield _read_frame(frames[frame], frame, material, energy_key)
        except ValueError as error:
            yield Refused(identifier=frame, kind="unreadable", reason=str(error))


def _read_frame(values: Any, frame: str, material: str, energy_key: str) -> Record:
    structure = read_structure(member(values, "structure", of="frame"))
    return Record(
        identifier=frame,
        group=material,
        atomic_numbers=structure.atomic_numbers,
        positions=structure.positions,
        cell=structure.cell,
        pbc=structure.pbc,
        energy=to_energy(values.get(energy_key)),
        forces=to_forces(values.get("force"), n_atoms=len(structure.positions)),
        stress=to_stress(values.get("stress")),
    )


def _place(frame: str) -> tuple[str, int, int]:
    """Where a frame stands among those of its material; as text, step 10 would precede step 9."""
    match = _FRAME.fullmatch(frame)
    return (match[1], int(match[2]), int(match[3])) if match else (frame, 0, 0)


def _facts(options: Options) -> Facts:
    return Facts(
        level_of_theory="PBE(+U)/VASP (Materials Project)",
        description=DESCRIPTIONS[options["energy"]],
        licence="CC-BY-4.0",
        citation="Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi:10.1038/s42256-023-00716-3",
    )


SOURCE = Source(
    name="mptrj",
    layout="MPtrj_2022.9_full.json, also compressed: material → frame; eV, eV/Å, kB (VASP's sign)",
    keys={
        "atomic_numbers": "structure.sites.species",
        "positions": "structure.sites.abc, else xyz in Å",
        "cell": "structure.lattice.matrix in Å",
        "energy": "uncorrected_total_energy or corrected_total_energy in eV",
        "forces": "force in eV/Å",
        "stress": "stress in kB, positive = compression",
    },
    facts=_facts,
    blocks=blocks,
    blocks_per_part=150,
    options={
        "energy": Option(
            help="which total energy: of VASP, to which the forces belong, or MP2020-corrected",
            choices=tuple(ENERGY_KEYS),
        )
    },
)
