"""A tiny model with two heads, and a few real structures to fine-tune it on."""

import gzip
import hashlib
from functools import cache
from pathlib import Path

import torch
from gfm_models.backbone import BackboneConfig
from gfm_models.checkpoint import save
from gfm_models.heads import HeadConfig
from gfm_models.potential import build_potential

SAMPLES = Path(__file__).resolve().parents[2] / "data"
BACKBONE = BackboneConfig(
    channels=4,
    l_max=2,
    correlation=3,
    cutoff=3.2,
    n_radial=4,
    radial_hidden=(6,),
    element_channels=4,
    mean_neighbors=8.0,
)
E0 = {"H": -13.568422, "C": -1025.277095, "O": -2035.570981}
HEADS = {
    "organic": HeadConfig(
        level_of_theory="PBE/def2-SVP",
        reference_energies=E0,
        scales={"H": 0.7, "C": 1.3, "O": 1.1},
        width=6,
    ),
    "wide": HeadConfig(
        level_of_theory="HF/STO-3G",
        reference_energies={**E0, "N": -1485.0},
        scales={"H": 0.5, "C": 0.8, "N": 0.8, "O": 0.9},
        width=5,
    ),
}
OLD_RECORD = {"organic": {"n_train": 7, "test": {"forces_mae": 0.5}}}
"""What the model's training.json says of its heads."""

ISOLATED_ATOMS = {"H": -13.600518, "C": -1028.305418, "O": -2040.444174}
SILANE = """5
Properties=species:S:1:pos:R:3:forces:R:3 energy={energy} pbc="F F F"
Si 0.0 0.0 0.0 0.0 0.0 0.0
H {d} {d} {d} 0.1 0.1 0.1
H -{d} -{d} {d} -0.1 -0.1 0.1
H {d} -{d} -{d} 0.1 -0.1 -0.1
H -{d} {d} -{d} -0.1 0.1 -0.1
"""


def write_model(folder: Path) -> Path:
    """A checkpoint in float64, with weights that matter."""
    potential = build_potential(BACKBONE, HEADS, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in potential.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    save(potential, folder, training={"heads": OLD_RECORD})
    return folder


def write_frames(path: Path, sample: str, places: range, *, more: str = "") -> str:
    """Some frames of a sample in `data/`, and others after them; the path as a string."""
    path.write_text("".join(frames(sample)[i] for i in places) + more, encoding="utf-8")
    return str(path)


@cache
def frames(sample: str) -> tuple[str, ...]:
    found = []
    with gzip.open(SAMPLES / sample / "train.extxyz.gz", "rt", encoding="utf-8") as file:
        for header in file:
            found.append(header + "".join(next(file) for _ in range(int(header) + 1)))
    return tuple(found)


def isolated_atom(symbol: str, energy: float) -> str:
    """A frame with forces, which vanish."""
    properties = "Properties=species:S:1:pos:R:3:forces:R:3"
    return f'1\n{properties} energy={energy} pbc="F F F"\n{symbol} 0 0 0 0 0 0\n'


def isolated_atoms() -> str:
    return "".join(isolated_atom(symbol, energy) for symbol, energy in ISOLATED_ATOMS.items())


def silanes() -> str:
    """Structures with an element that no head knows."""
    return "".join(SILANE.format(d=0.8 + 0.02 * i, energy=-340.0 + 0.1 * i) for i in range(4))


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
