"""Harmonics and couplings against e3nn; the quadrature against what it promises."""

import numpy as np
import pytest
import torch
from e3nn import o3
from gfm_models.harmonics import (
    coupling,
    degree_slice,
    n_harmonics,
    sphere_quadrature,
    spherical_harmonics,
    split_degrees,
)

DEGREES = [0, 1, 2, 3]
COUPLED = [
    (a, b, c)
    for a in DEGREES
    for b in DEGREES
    for c in range(abs(a - b), min(a + b, 3) + 1)
    if (a + b + c) % 2 == 0
]


def directions(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return vectors / vectors.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("l_max", DEGREES)
def test_harmonics_are_e3nns(l_max: int) -> None:
    points = directions(50)
    expected = o3.spherical_harmonics(
        list(range(l_max + 1)), points, normalize=False, normalization="component"
    )
    found = spherical_harmonics(points, l_max=l_max)
    assert found.shape == (50, n_harmonics(l_max))
    torch.testing.assert_close(found, expected, atol=1e-13, rtol=0)


def test_degrees_are_split_where_they_stand() -> None:
    components = torch.arange(16.0).expand(2, 16)
    for degree, part in enumerate(split_degrees(components)):
        assert torch.equal(part, components[:, degree_slice(degree)])


@pytest.mark.parametrize("l_max", [-1, 4])
def test_unknown_degrees_are_refused(l_max: int) -> None:
    with pytest.raises(ValueError, match="l_max must lie in 0 to 3"):
        spherical_harmonics(directions(1), l_max=l_max)


@pytest.mark.parametrize("l_max", DEGREES)
def test_quadrature_is_exact_to_its_degree(l_max: int) -> None:
    """Products of two harmonics have degree 2 l_max; their averages are the unit matrix."""
    points, weights = sphere_quadrature(2 * l_max)
    values = spherical_harmonics(torch.from_numpy(points), l_max=l_max).numpy()
    overlap = np.einsum("p,pa,pb->ab", weights, values, values)
    np.testing.assert_allclose(overlap, np.eye(n_harmonics(l_max)), atol=1e-13)


@pytest.mark.parametrize("l_max", [1, 2, 3])
def test_quadrature_is_no_finer_than_promised(l_max: int) -> None:
    points, weights = sphere_quadrature(2 * l_max - 1)
    values = spherical_harmonics(torch.from_numpy(points), l_max=l_max).numpy()
    overlap = np.einsum("p,pa,pb->ab", weights, values, values)
    assert np.abs(overlap - np.eye(n_harmonics(l_max))).max() > 0.1


@pytest.mark.parametrize("degree", [0, 1, 5, 12])
def test_quadrature_points_are_unit_vectors(degree: int) -> None:
    points, weights = sphere_quadrature(degree)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0, rtol=1e-14)
    assert weights.sum() == pytest.approx(1.0, rel=1e-14)
    assert (weights > 0).all()


@pytest.mark.parametrize("degrees", COUPLED, ids=str)
def test_coupling_is_e3nns_up_to_the_scale(degrees: tuple[int, int, int]) -> None:
    found = coupling(*degrees)
    expected = o3.wigner_3j(*degrees, dtype=torch.float64).numpy() * (2 * degrees[2] + 1) ** 0.5
    sign = np.sign(np.sum(found * expected))
    np.testing.assert_allclose(found, sign * expected, atol=1e-13)


@pytest.mark.parametrize("degrees", [(1, 1, 1), (0, 1, 0), (1, 1, 3), (2, 2, 3), (0, 2, 1)])
def test_degrees_that_do_not_couple_are_refused(degrees: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="do not couple with natural parity"):
        coupling(*degrees)
