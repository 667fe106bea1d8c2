"""Products at the nodes: which polynomial of a function on the sphere, and how it is averaged."""

from dataclasses import dataclass
from functools import cache
from math import factorial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gfm_models.harmonics import n_harmonics, spherical_harmonics
from gfm_models.quadrature import antipodal_quadrature


@dataclass(frozen=True, order=True)
class NodeProduct:
    """Powers 1 to `correlation` of a function of degrees 0 to `l_in`, of which `l_out` are kept.

    With u the features and w the weights of a node and a channel,

        f(s) = Σ_lm u_lm Y_lm(s) / sqrt(number of u_lm),   out_lm = <Y_lm(s) Σ_k w_k f(s)^k>_s.
    """

    l_in: int
    l_out: int
    correlation: int

    @property
    def n_in(self) -> int:
        """Number of components of the features."""
        return n_harmonics(self.l_in)

    @property
    def n_out(self) -> int:
        """Number of components of the product."""
        return n_harmonics(self.l_out)


@cache
def sphere_matrices(
    product: NodeProduct,
) -> tuple[Float[np.ndarray, "pairs components"], Float[np.ndarray, "pairs components_out"]]:
    """From u to f at one point of each antipodal pair, and from there back to `out`.

    At the antipodes odd degrees have the other sign in both. The points are fine enough for the
    largest degree, so that the product is exactly O(3)-equivariant and not just nearly so.
    """
    points, weights = antipodal_quadrature(product.correlation * product.l_in + product.l_out)
    of_in, of_out = (
        spherical_harmonics(torch.from_numpy(points), l_max=l_max).numpy()
        for l_max in (product.l_in, product.l_out)
    )
    return _cleaned(of_in / product.n_in**0.5), _cleaned(of_out * weights[:, None])


def parities(l_max: int) -> Float[np.ndarray, " components"]:
    """(-1)^l of every component."""
    return np.concatenate(
        [np.full(2 * degree + 1, (-1.0) ** degree) for degree in range(l_max + 1)]
    )


def all_points(
    product: NodeProduct, dtype: torch.dtype
) -> tuple[Float[Tensor, "points components"], Float[Tensor, "components_out points"]]:
    """As `sphere_matrices`, at both points of every pair."""
    to_sphere, back = sphere_matrices(product)
    to_sphere = np.concatenate([to_sphere, to_sphere * parities(product.l_in)])
    back = np.concatenate([back, back * parities(product.l_out)]).T.copy()
    return torch.as_tensor(to_sphere, dtype=dtype), torch.as_tensor(back, dtype=dtype)


def polynomial(
    f: Float[Tensor, "nodes points channels"],
    weights: Float[Tensor, "nodes powers channels"],
    *,
    derivative: int = 0,
) -> Float[Tensor, "nodes points channels"]:
    """Σ_k w_k f^k, or its derivative by f."""
    total = torch.zeros_like(f)
    for k in range(weights.shape[1], max(derivative, 1) - 1, -1):
        total = total * f + slope(k, derivative) * weights[:, k - 1, None]
    return total if derivative else total * f


def slope(power: int, derivative: int) -> int:
    """The factor in front of f^(k - d), the d-th derivative of f^k."""
    return factorial(power) // factorial(power - derivative)


def _cleaned(matrix: np.ndarray) -> np.ndarray:
    """Zeros without rounding errors."""
    return np.where(np.abs(matrix) < 1e-14, 0.0, matrix)
