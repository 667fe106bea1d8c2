"""The public contract, passed by the backbone in both precisions on every back end."""

import pytest
import torch
from gfm_models.backbone import BackboneConfig
from gfm_models.heads import HeadConfig
from gfm_models.kernels.backend import Backend
from gfm_models.potential import MultiHeadPotential, build_potential
from gfm_models.testing import CHECKS

HEADS = {
    "molecules": HeadConfig(
        level_of_theory="made up",
        reference_energies={"H": -13.6, "C": -1028.1, "O": -2041.3},
        scales={"H": 0.7, "C": 1.3, "O": 1.1},
    ),
    "metals": HeadConfig(
        level_of_theory="made up",
        reference_energies={"Ni": -0.3, "Mo": -4.6},
        scales={"Ni": 0.6, "Mo": 1.2},
    ),
}
ARCHITECTURES = {
    "default": BackboneConfig(channels=8, mean_neighbors=10.0),
    "deep": BackboneConfig(channels=4, l_max=3, l_hidden=2, n_interactions=3, cutoff=4.0),
    "one layer": BackboneConfig(channels=8, l_hidden=0, n_interactions=1),
    "pairs at nodes": BackboneConfig(channels=8, correlation=2),
    "one at nodes": BackboneConfig(channels=8, correlation=1),
}


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> BackboneConfig:
    return ARCHITECTURES[request.param]


@pytest.fixture(params=["reference", "fused"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return request.param


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def potential(
    architecture: BackboneConfig, backend: Backend, request: pytest.FixtureRequest
) -> MultiHeadPotential:
    return build_potential(architecture, HEADS, dtype=request.param, seed=3, backend=backend)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("check", CHECKS)
def test_contract(potential: MultiHeadPotential, head: str, check: str) -> None:
    CHECKS[check](potential, head)
