"""Write a small checkpoint of the present format version, and what it predicts; see README.md."""

import json
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.build import bulk, molecule
from gfm_models import checkpoint
from gfm_models.backbone import BackboneConfig
from gfm_models.derivatives import predict, stress
from gfm_models.graph import graph_from_atoms
from gfm_models.heads import HeadConfig
from gfm_models.potential import MultiHeadPotential, build_potential

BACKBONE = BackboneConfig(
    channels=4,
    l_max=3,
    l_hidden=2,
    n_interactions=3,
    cutoff=4.5,
    n_radial=5,
    radial_hidden=(6, 5),
    element_channels=3,
    mean_neighbors=9.0,
)
HEADS = {
    "organic": HeadConfig(
        level_of_theory="PBE/def2-SVP",
        reference_energies={"H": -13.6, "C": -1028.1, "O": -2041.3},
        scales={"H": 0.7, "C": 1.3, "O": 1.1},
        reference_origin="isolated atoms in the data",
        description="random numbers for tests",
        source="nothing",
        licence="MIT",
        citation="Å. Nobody, 2025",
        labels=("energy", "forces"),
        width=5,
    ),
    "metals": HeadConfig(
        level_of_theory="PBE, plane waves",
        reference_energies={"Ni": -0.3, "Cu": -0.2},
        scales={"Ni": 0.6, "Cu": 0.5},
        labels=("energy", "forces", "stress"),
        width=6,
        stale=True,
    ),
}


def main() -> None:
    folder = Path(__file__).parent / f"version-{checkpoint.FORMAT_VERSION}"
    checkpoint.save(random_potential(), folder / "checkpoint", training={"code_version": "0.1.0"})
    potential = checkpoint.load(folder / "checkpoint", dtype=torch.float64)
    expected = [
        prediction_of(potential, head, atoms)
        for head, structures in structures_of_heads().items()
        for atoms in structures
    ]
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


def random_potential() -> MultiHeadPotential:
    potential = build_potential(BACKBONE, HEADS)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in potential.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return potential


def structures_of_heads() -> dict[str, list[Atoms]]:
    pressed = molecule("CH3CH2OH")
    pressed.positions[2] += 0.6 * (pressed.positions[0] - pressed.positions[2])
    alloy = bulk("Cu", cubic=True)
    alloy.numbers[0] = 28
    alloy.rattle(0.1, seed=0)
    return {
        "organic": [molecule("CH3CH2OH"), pressed, Atoms("O")],
        "metals": [alloy, bulk("Ni", "fcc", a=3.4)],
    }


def prediction_of(potential: MultiHeadPotential, head: str, atoms: Atoms) -> dict[str, Any]:
    graph = graph_from_atoms(atoms, cutoff=potential.cutoff)
    prediction = predict(potential, graph, head)
    return {
        "head": head,
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "pbc": atoms.pbc.tolist(),
        "energy": prediction.energy.item(),
        "forces": prediction.forces.tolist(),
        "stress": stress(prediction.virial, graph)[0].tolist() if atoms.pbc.all() else None,
    }


if __name__ == "__main__":
    main()
