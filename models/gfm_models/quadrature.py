"""Averages over the sphere with points in antipodal pairs, as few as are known in closed form."""

from functools import cache
from itertools import permutations, product
from math import sqrt

import numpy as np
from jaxtyping import Float

_Point = tuple[float, float, float]

AXIS: _Point = (1, 0, 0)
EDGE: _Point = (0, sqrt(1 / 2), sqrt(1 / 2))
CORNER: _Point = (sqrt(1 / 3), sqrt(1 / 3), sqrt(1 / 3))
FACE: _Point = (sqrt(1 / 11), sqrt(1 / 11), sqrt(9 / 11))
RIM: _Point = (sqrt((1 + sqrt(1 / 3)) / 2), sqrt((1 - sqrt(1 / 3)) / 2), 0)

OCTAHEDRAL: dict[int, tuple[tuple[_Point, float], ...]] = {
    3: ((AXIS, 1 / 6),),
    5: ((AXIS, 1 / 15), (CORNER, 3 / 40)),
    7: ((AXIS, 1 / 21), (EDGE, 4 / 105), (CORNER, 9 / 280)),
    9: ((AXIS, 1 / 105), (CORNER, 9 / 280), (RIM, 1 / 35)),
    11: ((AXIS, 4 / 315), (EDGE, 64 / 2835), (CORNER, 27 / 1280), (FACE, 14641 / 725760)),
}
"""By degree: one point of each orbit of the octahedral group, and the weight of every such point.

Source: A. D. McLaren, Math. Comp. 17 (1963) 361; V. I. Lebedev, USSR Comput. Math. Math. Phys. 16
(1976) 10.
"""


@cache
def antipodal_quadrature(
    degree: int,
) -> tuple[Float[np.ndarray, "pairs 3"], Float[np.ndarray, " pairs"]]:
    """One point s of every pair s, -s, and the weight that s and -s each have.

    Σ weight · (p(s) + p(-s)) is the average over the sphere of every polynomial p up to `degree`.
    Up to degree 11 many coordinates are zero, and with them many harmonics; beyond it the points
    are Gauss-Legendre along the polar axis y times equal steps around it.
    """
    found = next((orbits for known, orbits in OCTAHEDRAL.items() if known >= degree), None)
    points, weights = _product_grid(degree) if found is None else _orbits(found)
    kept = [_stands_for_its_pair(point) for point in points]
    return points[kept], weights[kept]


def _orbits(
    orbits: tuple[tuple[_Point, float], ...],
) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, " points"]]:
    points, weights = [], []
    for first, weight in orbits:
        signed = product(*((x, -x) if x else (x,) for x in first))
        orbit = sorted({p for signs in signed for p in permutations(signs)})
        points += orbit
        weights += [weight] * len(orbit)
    return np.array(points), np.array(weights)


def _product_grid(
    degree: int,
) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, " points"]]:
    n_polar, n_around = degree // 2 + 1, 2 * (degree // 2 + 1)
    cosines, polar_weights = np.polynomial.legendre.leggauss(n_polar)
    angles = 2 * np.pi * np.arange(n_around) / n_around
    c, a = (grid.ravel() for grid in np.meshgrid(cosines, angles, indexing="ij"))
    s = np.sqrt(1 - c * c)
    points = np.stack([s * np.sin(a), c, s * np.cos(a)], axis=-1)
    points[np.abs(points) < 1e-14] = 0.0
    return points, np.repeat(polar_weights / 2 / n_around, n_around)


def _stands_for_its_pair(point: Float[np.ndarray, "3"]) -> bool:
    """Whether its first coordinate that is not zero is positive, in the order y, x, z."""
    x, y, z = point
    return next(c for c in (y, x, z) if c) > 0
