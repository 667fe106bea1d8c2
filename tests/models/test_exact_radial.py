"""Splines follow the radial networks: a potential with them, and one without.

What is compared is the learned part alone: the repulsion can be far larger, and would hide a
difference.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from gfm_models import checkpoint
from gfm_models.backbone import BackboneConfig
from gfm_models.graph import edge_vectors, graph_from_atoms
from gfm_models.heads import HeadConfig
from gfm_models.layers.interaction import Interaction
from gfm_models.layers.radial import RadialWeights, bessel_functions
from gfm_models.potential import MultiHeadPotential, build_potential
from torch import Tensor

OLD = Path(__file__).resolve().parents[1] / "checkpoints" / "version-1" / "checkpoint"
ELEMENTS = ("H", "C", "O", "Ni", "Si")
HEAD = HeadConfig(
    level_of_theory="made up",
    reference_energies=dict.fromkeys(ELEMENTS, 0.0),
    scales=dict.fromkeys(ELEMENTS, 10.0),
)
ENERGY, FORCE = 1e-6, 1e-4
"""eV an atom, and a part of the largest force."""


class ExactRadial:
    """Stands for a spline, and is the network itself, at every distance."""

    def __init__(self, radial: RadialWeights, config: BackboneConfig) -> None:
        self.radial = radial
        self.config = config

    def __call__(self, lengths: Tensor) -> Tensor:
        n_radial, cutoff = self.config.n_radial, self.config.cutoff
        basis = bessel_functions(lengths, n_radial=n_radial, cutoff=cutoff)
        values = self.radial.mlp(basis.to(self.radial.get_buffer("basis").dtype))
        return values.unflatten(1, (self.radial.n_paths, self.radial.channels))


def interactions_of(potential: MultiHeadPotential) -> list[Interaction]:
    return [i for i in potential.backbone.interactions if isinstance(i, Interaction)]


def without_splines(potential: MultiHeadPotential) -> MultiHeadPotential:
    """The same potential as it would be if its radial functions were the networks."""
    potential.backbone.backend = "reference"
    for interaction in interactions_of(potential):
        exact = ExactRadial(interaction.radial, potential.backbone.config)
        setattr(interaction.radial, "coefficients", lambda exact=exact: exact)  # noqa: B010 (types)
    return potential


def learned_part(potential: MultiHeadPotential, atoms: Atoms, head: str) -> tuple[Tensor, Tensor]:
    """Atomic energies, and their gradient by the edges."""
    graph = graph_from_atoms(atoms, cutoff=potential.cutoff)
    vectors = edge_vectors(graph).requires_grad_()
    energies = potential.head(head)(potential.backbone(graph, vectors), graph.atomic_numbers)
    (gradient,) = torch.autograd.grad(energies.sum(), vectors)
    return energies.detach(), gradient


def errors(make: Callable[[], MultiHeadPotential], atoms: Atoms, head: str) -> tuple[float, float]:
    """Of the energy in eV an atom, and of forces as a part of the largest."""
    found = learned_part(make(), atoms, head)
    expected = learned_part(without_splines(make()), atoms, head)
    assert expected[1].abs().max() > 1e-2
    energy, force = ((a - b).abs().max().item() for a, b in zip(found, expected, strict=True))
    return energy, force / expected[1].abs().max().item()


def structures() -> dict[str, Atoms]:
    """Atoms come as close as 0.7 Å."""
    found = {
        "molecule": molecule("CH3CH2OH"),
        "water": molecule("H2O", cell=np.full(3, 3.1), pbc=True) * (3, 3, 3),
        "metal": bulk("Ni", cubic=True) * (2, 2, 2),
        "silicon": bulk("Si", cubic=True) * (2, 2, 2),
    }
    for atoms in found.values():
        atoms.rattle(0.1, seed=0)
    return found


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", structures())
def test_of_the_default_architecture(name: str, dtype: torch.dtype) -> None:
    def make() -> MultiHeadPotential:
        return build_potential(BackboneConfig(), {"h": HEAD}, seed=1, dtype=dtype)

    energy, force = errors(make, structures()[name], "h")
    assert energy < ENERGY
    assert force < FORCE


@pytest.mark.parametrize("name", structures())
def test_of_weights_that_have_moved(name: str) -> None:
    """By 0.05, half of what a weight of 64 inputs starts with: networks get rougher."""

    def make() -> MultiHeadPotential:
        potential = build_potential(BackboneConfig(), {"h": HEAD}, dtype=torch.float64)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for interaction in interactions_of(potential):
                for weight in interaction.radial.parameters():
                    noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
                    weight.add_(noise, alpha=0.05)
        return potential

    energy, force = errors(make, structures()[name], "h")
    assert energy < ENERGY
    assert force < FORCE


@pytest.mark.parametrize(
    ("atoms", "head"), [(molecule("CH3CH2OH"), "organic"), (bulk("Cu", cubic=True), "metals")]
)
def test_of_a_checkpoint_written_before_there_were_splines(atoms: Atoms, head: str) -> None:
    """It is followed more closely still, for its predictions are to stay what they were."""
    atoms.rattle(0.1, seed=0)

    def make() -> MultiHeadPotential:
        return checkpoint.load(OLD, dtype=torch.float64)

    config = make().backbone.config
    assert (config.radial_intervals, config.repulsion_reach, config.correlation) == (1024, 1.0, 3)
    energy, force = errors(make, atoms, head)
    assert energy < 1e-11
    assert force < 1e-8


def test_fewer_pieces_would_be_seen() -> None:
    def make() -> MultiHeadPotential:
        config = BackboneConfig(radial_intervals=64)
        return build_potential(config, {"h": HEAD}, seed=1, dtype=torch.float64)

    energy, force = errors(make, structures()["water"], "h")
    assert energy > ENERGY
    assert force > FORCE
