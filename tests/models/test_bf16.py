"""Radial networks in bfloat16: equivariance stays, energies and forces agree to its rounding."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from gfm_models.backbone import BackboneConfig
from gfm_models.derivatives import Prediction, predict
from gfm_models.heads import HeadConfig
from gfm_models.potential import MultiHeadPotential, build_potential
from gfm_models.testing import CHECKS, Structure, crystal, molecule

HEAD = HeadConfig(
    level_of_theory="made up",
    reference_energies={"H": -13.6, "C": -1028.1, "O": -2041.3},
    scales={"H": 0.7, "C": 1.3, "O": 1.1},
)
ARCHITECTURES = {
    "default": BackboneConfig(channels=8, mean_neighbors=10.0),
    "deep": BackboneConfig(channels=4, l_max=3, l_hidden=2, n_interactions=3, cutoff=4.0),
}
EXACT_CHECKS = ("translation", "permutation", "extensivity", "isolated atoms", "energy sum")
ROUNDING = 2**-8
"""Of bfloat16."""


@pytest.fixture(params=ARCHITECTURES)
def both(request: pytest.FixtureRequest) -> tuple[MultiHeadPotential, MultiHeadPotential]:
    """The same weights with radial networks in bfloat16 and in float32."""
    rounded, exact = (
        build_potential(ARCHITECTURES[request.param], {"h": HEAD}, seed=3) for _ in range(2)
    )
    rounded.backbone.compute_radial_in(torch.bfloat16)
    return rounded, exact


@pytest.fixture(params=[molecule, crystal], ids=["molecule", "crystal"])
def structure(request: pytest.FixtureRequest, both) -> Structure:
    make: Callable[[MultiHeadPotential, str], Structure] = request.param
    return make(both[0], "h")


def predicted(potential: MultiHeadPotential, structure: Structure) -> Prediction:
    return predict(potential, structure.graph(potential.cutoff), "h")


@pytest.mark.parametrize("check", EXACT_CHECKS)
def test_what_does_not_depend_on_rounding_holds(both, check):
    CHECKS[check](both[0], "h")


def test_turned_structures_have_turned_forces(both, structure):
    rounded, _ = both
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    before = predicted(rounded, structure)
    turned = structure.moved(structure.positions @ turn.T, structure.cell @ turn.T)
    after = predicted(rounded, turned)
    q = torch.from_numpy(turn)
    largest = before.forces.abs().max()
    assert (after.energy - before.energy).abs().item() < 1e-5
    assert (after.forces - before.forces @ q.T).abs().max() < ROUNDING / 4 * largest


def test_forces_are_those_of_float32_to_rounding(both, structure):
    rounded, exact = (predicted(potential, structure) for potential in both)
    difference = (rounded.forces - exact.forces).norm() / exact.forces.norm()
    assert 0 < difference < 6 * ROUNDING


def test_the_work_of_the_forces_is_the_difference_of_the_energies(both):
    """Along a path; at one point, steps of rounding make finite differences useless."""
    rounded, _ = both
    start = molecule(rounded, "h")
    path = predicted(rounded, start).forces.numpy()
    path *= 0.3 / np.linalg.norm(path)
    points, weights = np.polynomial.legendre.leggauss(24)
    slopes = [slope(rounded, start, path, (x + 1) / 2) for x in points]
    ends = [predicted(rounded, start.moved(start.positions + x * path)).energy for x in (0, 1)]
    work = float(weights @ slopes) / 2
    assert work == pytest.approx((ends[1] - ends[0]).item(), rel=0.05)


def slope(potential: MultiHeadPotential, start: Structure, path: np.ndarray, part: float) -> float:
    """Of the energy along `path`, from the forces."""
    forces = predicted(potential, start.moved(start.positions + part * path)).forces
    return -float((forces.numpy() * path).sum())


def test_training_reaches_every_weight(both, structure):
    gradients = []
    for potential in both:
        graph = structure.graph(potential.cutoff)
        loss = predict(potential, graph, "h", create_graph=True).forces.square().sum()
        parameters = list(potential.parameters())
        found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        assert all(g.dtype == torch.float32 for g in found)
        gradients.append(torch.cat([g.flatten() for g in found]))
    difference = (gradients[0] - gradients[1]).norm() / gradients[1].norm()
    assert 0 < difference < 20 * ROUNDING
