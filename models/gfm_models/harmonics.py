"""Real spherical harmonics, the quadrature on the sphere, and the coupling of three harmonics.

The components of degree l are ordered and signed as in e3nn, and scaled so that each has mean
square one over the sphere ("component" normalisation).
"""

from functools import cache
from math import isqrt

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

MAX_DEGREE = 3


def n_harmonics(l_max: int) -> int:
    """Number of components of degrees 0 to `l_max`."""
    return (l_max + 1) ** 2


def degree_slice(degree: int) -> slice:
    """Where the components of one degree stand among those of degrees 0, 1, 2, …."""
    return slice(degree**2, (degree + 1) ** 2)


def split_degrees(components: Float[Tensor, "points components ..."]) -> tuple[Tensor, ...]:
    """The components of degree 0, 1, 2, … each by itself."""
    l_max = isqrt(components.shape[1]) - 1
    return components.split([2 * degree + 1 for degree in range(l_max + 1)], dim=1)


def spherical_harmonics(
    directions: Float[Tensor, "points 3"], *, l_max: int
) -> Float[Tensor, "points harmonics"]:
    """Harmonics of degrees 0 to `l_max` of unit vectors, y being the polar axis.

    Raises:
        ValueError: `l_max` is above 3.
    """
    if not 0 <= l_max <= MAX_DEGREE:
        raise ValueError(f"l_max must lie in 0 to {MAX_DEGREE}, got {l_max}")
    x, y, z = directions.unbind(-1)
    one = torch.ones_like(x)
    columns = [one]
    if l_max >= 1:
        columns += [3**0.5 * x, 3**0.5 * y, 3**0.5 * z]
    if l_max >= 2:
        xz, zz_xx = 15**0.5 * x * z, 15**0.5 / 2 * (z * z - x * x)
        columns += [
            xz,
            15**0.5 * x * y,
            5**0.5 / 2 * (3 * y * y - 1),
            15**0.5 * y * z,
            zz_xx,
        ]
    if l_max >= 3:
        columns += [
            (35 / 8) ** 0.5 * x * (3 * z * z - x * x),
            105**0.5 * x * y * z,
            (21 / 8) ** 0.5 * x * (5 * y * y - 1),
            7**0.5 / 2 * y * (5 * y * y - 3),
            (21 / 8) ** 0.5 * z * (5 * y * y - 1),
            105**0.5 / 2 * y * (z * z - x * x),
            (35 / 8) ** 0.5 * z * (z * z - 3 * x * x),
        ]
    return torch.stack(columns, dim=-1)


@cache
def sphere_quadrature(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights that average every polynomial up to `degree` over the sphere exactly.

    Gauss-Legendre along the polar axis times equal steps around it.

    Returns:
        Unit vectors [points, 3] and weights [points] that sum to one.
    """
    n_polar, n_around = degree // 2 + 1, degree + 1
    cosines, polar_weights = np.polynomial.legendre.leggauss(n_polar)
    angles = 2 * np.pi * np.arange(n_around) / n_around
    c, a = (grid.ravel() for grid in np.meshgrid(cosines, angles, indexing="ij"))
    s = np.sqrt(1 - c * c)
    points = np.stack([s * np.sin(a), c, s * np.cos(a)], axis=-1)
    return points, np.repeat(polar_weights / 2 / n_around, n_around)


@cache
def coupling(l1: int, l2: int, l3: int) -> np.ndarray:
    """Invariant coupling C[m1, m2, m3] of three harmonics, with squares summing to 2 l3 + 1.

    It is the Gaunt integral, the average of Y_l1 Y_l2 Y_l3 over the sphere, rescaled: for
    features of natural parity, (-1)^l, it is the only invariant there is.

    Raises:
        ValueError: the degrees break the triangle rule or l1 + l2 + l3 is odd.
    """
    if (l1 + l2 + l3) % 2 or not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ValueError(f"degrees ({l1}, {l2}, {l3}) do not couple with natural parity")
    points, weights = sphere_quadrature(l1 + l2 + l3)
    values = spherical_harmonics(torch.from_numpy(points), l_max=max(l1, l2, l3)).numpy()
    y1, y2, y3 = (values[:, degree_slice(degree)] for degree in (l1, l2, l3))
    gaunt = np.einsum("p,pa,pb,pc->abc", weights, y1, y2, y3)
    gaunt[np.abs(gaunt) < 1e-12] = 0.0
    return gaunt * np.sqrt((2 * l3 + 1) / np.sum(gaunt**2))
