"""Antipodal quadratures average what they promise, with as few points as their tables say."""

import numpy as np
import pytest
from gfm_models.quadrature import OCTAHEDRAL, antipodal_quadrature

N_PAIRS = {
    0: 3,
    3: 3,
    4: 7,
    5: 7,
    6: 13,
    7: 13,
    8: 19,
    9: 19,
    10: 25,
    11: 25,
    12: 49,
    14: 64,
    15: 64,
}


def moment(a: int, b: int, c: int) -> float:
    """Average of x^a y^b z^c over the sphere."""
    if a % 2 or b % 2 or c % 2:
        return 0.0
    odd = (double_factorial(n - 1) for n in (a, b, c))
    return float(np.prod(list(odd)) / double_factorial(a + b + c + 1))


def double_factorial(n: int) -> int:
    return int(np.prod(np.arange(n, 0, -2))) if n > 0 else 1


def average(degree: int, powers: tuple[int, int, int]) -> float:
    points, weights = antipodal_quadrature(degree)
    both = np.prod(points**powers, axis=1) + np.prod((-points) ** powers, axis=1)
    return float(weights @ both)


@pytest.mark.parametrize("degree", N_PAIRS)
def test_monomials_have_their_averages(degree: int) -> None:
    for a in range(degree + 1):
        for b in range(degree + 1 - a):
            for c in range(degree + 1 - a - b):
                assert average(degree, (a, b, c)) == pytest.approx(moment(a, b, c), abs=1e-15)


@pytest.mark.parametrize("degree", OCTAHEDRAL)
def test_tables_claim_no_more_than_is_true(degree: int) -> None:
    next_even = [
        (a, b, degree + 1 - a - b) for a in range(degree + 2) for b in range(degree + 2 - a)
    ]
    errors = [abs(average(degree, powers) - moment(*powers)) for powers in next_even]
    assert max(errors) > 1e-4


@pytest.mark.parametrize(("degree", "n_pairs"), N_PAIRS.items())
def test_one_point_of_every_pair(degree: int, n_pairs: int) -> None:
    points, weights = antipodal_quadrature(degree)
    assert points.shape == (n_pairs, 3)
    assert (weights > 0).all()
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0, rtol=1e-14)
    cosines = points @ points.T
    np.fill_diagonal(cosines, 0.0)
    assert np.abs(cosines).max(initial=0.0) < 0.999
