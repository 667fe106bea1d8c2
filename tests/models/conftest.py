"""A small potential of two heads, in float64, for the tests that need one."""

import pytest
import torch
from gfm_models.backbone import BackboneConfig
from gfm_models.heads import HeadConfig
from gfm_models.potential import MultiHeadPotential, build_potential

ORGANIC = HeadConfig(
    level_of_theory="PBE/def2-SVP",
    reference_energies={"H": -13.6, "C": -1028.1, "O": -2041.3},
    scales={"H": 0.7, "C": 1.3, "O": 1.1},
)
METALS = HeadConfig(
    level_of_theory="PBE, plane waves",
    reference_energies={"Ni": -0.3, "Cu": -0.2},
    scales={"Ni": 0.6, "Cu": 0.5},
)


@pytest.fixture
def head_configs() -> dict[str, HeadConfig]:
    return {"organic": ORGANIC, "metals": METALS}


@pytest.fixture
def backbone_config() -> BackboneConfig:
    return BackboneConfig(channels=4, n_radial=4, radial_hidden=(8,), element_channels=4)


@pytest.fixture
def potential(
    backbone_config: BackboneConfig, head_configs: dict[str, HeadConfig]
) -> MultiHeadPotential:
    return build_potential(backbone_config, head_configs, seed=1, dtype=torch.float64)
