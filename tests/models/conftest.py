"""A small potential of two heads, in float64, and turns with e3nn's matrices for them."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
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
    return BackboneConfig(
        channels=4,
        l_max=2,
        correlation=3,
        n_radial=4,
        radial_hidden=(8,),
        element_channels=4,
        mean_neighbors=2.0,
    )


@pytest.fixture
def potential(
    backbone_config: BackboneConfig, head_configs: dict[str, HeadConfig]
) -> MultiHeadPotential:
    return build_potential(backbone_config, head_configs, seed=1, dtype=torch.float64)


@pytest.fixture(params=[1.0, -1.0], ids=["rotation", "reflection"])
def turn(request: pytest.FixtureRequest) -> torch.Tensor:
    """A proper and an improper rotation."""
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    return torch.from_numpy(request.param * np.sign(np.linalg.det(q)) * q)


@pytest.fixture
def e3nn_in_float64() -> Iterator[None]:
    """E3nn builds its constants in torch's default precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def d_matrix(e3nn_in_float64: None) -> Callable[[str, torch.Tensor], torch.Tensor]:
    """E3nn's matrix by which features of given irreps turn."""
    from e3nn import o3

    def matrix(irreps: str, turn: torch.Tensor) -> torch.Tensor:
        representation: Any = o3.Irreps(irreps)  # e3nn types it as a tuple
        return representation.D_from_matrix(turn)

    return matrix
