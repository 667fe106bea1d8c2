"""The product on the sphere against a slow sum over couplings, and against rotations."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from gfm_models.backbone import irreps
from gfm_models.harmonics import (
    coupling,
    degree_slice,
    n_harmonics,
    sphere_quadrature,
    spherical_harmonics,
)
from gfm_models.kernels.backend import Backend
from gfm_models.layers.sphere import SphereProduct

CHANNELS = 3
DEGREES = [(0, 0), (1, 1), (2, 0), (2, 1), (2, 2), (3, 2), (3, 3)]
pytestmark = [
    pytest.mark.parametrize(("l_in", "l_out"), DEGREES),
    pytest.mark.parametrize("backend", ["fused", "reference"]),
]


def features(l_in: int, *, n_nodes: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (n_nodes, n_harmonics(l_in), CHANNELS)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def powers(power: int, *, n_nodes: int = 5) -> torch.Tensor:
    """Weights that pick one power of f."""
    weights = torch.zeros(n_nodes, 3, CHANNELS, dtype=torch.float64)
    weights[:, power - 1] = 1.0
    return weights


def product(l_in: int, l_out: int, backend: Backend) -> Callable[..., torch.Tensor]:
    module = SphereProduct(l_in=l_in, l_out=l_out, correlation=3, dtype=torch.float64)
    return partial(module, backend=backend)


def gaunt(l1: int, l2: int, l3: int) -> np.ndarray:
    """Average of Y_l1 Y_l2 Y_l3 over the sphere, its scale from the polar components' integral."""
    points, weights = sphere_quadrature(12)
    y = spherical_harmonics(torch.from_numpy(points), l_max=3).numpy()
    polar = [y[:, degree**2 + degree] for degree in (l1, l2, l3)]
    c = coupling(l1, l2, l3)
    return c * (np.sum(weights * polar[0] * polar[1] * polar[2]) / c[l1, l2, l3])


def slow_square(u: np.ndarray, *, l_in: int, l_out: int) -> np.ndarray:
    """<Y_lm f²> = Σ G[m1, m2, m] u_m1 u_m2 over all pairs of degrees."""
    u = u / n_harmonics(l_in) ** 0.5
    out = np.zeros((u.shape[0], n_harmonics(l_out), u.shape[2]))
    for l3 in range(l_out + 1):
        for l1 in range(l_in + 1):
            for l2 in range(l_in + 1):
                if (l1 + l2 + l3) % 2 or not abs(l1 - l2) <= l3 <= l1 + l2:
                    continue
                a, b = u[:, degree_slice(l1)], u[:, degree_slice(l2)]
                out[:, degree_slice(l3)] += np.einsum("nac,nbc,abo->noc", a, b, gaunt(l1, l2, l3))
    return out


def test_first_power_is_the_features(l_in: int, l_out: int, backend: Backend) -> None:
    u = features(l_in)
    kept = u[:, : n_harmonics(l_out)] / n_harmonics(l_in) ** 0.5
    torch.testing.assert_close(
        product(l_in, l_out, backend)(u, powers(1)), kept, atol=1e-13, rtol=0
    )


def test_square_is_the_sum_over_couplings(l_in: int, l_out: int, backend: Backend) -> None:
    u = features(l_in)
    expected = slow_square(u.numpy(), l_in=l_in, l_out=l_out)
    found = product(l_in, l_out, backend)(u, powers(2)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-13)


def test_cube_is_the_product_with_the_square(l_in: int, l_out: int, backend: Backend) -> None:
    """<Y f³> with a quadrature twice as fine as needed."""
    points, weights = sphere_quadrature(2 * (3 * l_in + l_out))
    y = spherical_harmonics(torch.from_numpy(points), l_max=3).numpy()
    u = features(l_in).numpy()
    f = np.einsum("pa,nac->npc", y[:, : n_harmonics(l_in)], u) / n_harmonics(l_in) ** 0.5
    expected = np.einsum("p,pa,npc->nac", weights, y[:, : n_harmonics(l_out)], f**3)
    found = product(l_in, l_out, backend)(features(l_in), powers(3)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_product_turns_with_its_features(
    l_in: int,
    l_out: int,
    backend: Backend,
    turn: torch.Tensor,
    d_matrix: Callable[[str, torch.Tensor], torch.Tensor],
) -> None:
    before, after = (d_matrix(irreps(1, degree), turn) for degree in (l_in, l_out))
    u, weights = features(l_in), torch.randn(5, 3, CHANNELS, dtype=torch.float64)
    module = product(l_in, l_out, backend)
    torch.testing.assert_close(
        module(before @ u, weights), after @ module(u, weights), atol=1e-11, rtol=0
    )


def test_features_of_zero_give_zero(l_in: int, l_out: int, backend: Backend) -> None:
    weights = torch.randn(5, 3, CHANNELS, dtype=torch.float64)
    assert not product(l_in, l_out, backend)(torch.zeros_like(features(l_in)), weights).any()
