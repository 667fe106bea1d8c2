"""Radial functions as splines: any number of them for the price of six rows of a table."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

DEGREE = 5
"""Four continuous derivatives: forces and force constants are smooth."""

_AT_A_KNOT = np.array([1, 26, 66, 26, 1]) / 120
"""The splines that are not zero at a knot."""
_CONTINUED = (6, -15, 20, -15, 6, -1)
"""The next number of a sequence whose sixth differences vanish, from those before, last first."""
_BEYOND = 2
"""Splines at each end of the range that are centred beyond it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RadialTable:
    """Coefficients of B-splines on equal intervals from 0 to a cutoff."""

    rows: Float[Tensor, "intervals_and_degree paths channels"]
    """Row k + j belongs to the j-th of the splines that are not zero on interval k."""

    scale: float
    """Intervals per Å."""

    @property
    def n_intervals(self) -> int:
        """Number of intervals."""
        return len(self.rows) - DEGREE

    def __call__(self, lengths: Float[Tensor, " edges"]) -> Float[Tensor, "edges paths channels"]:
        """The spline itself, in plain torch, on any device.

        As one product of matrices: of the rows that an edge does not need, too, but nothing as
        large as six of them for each edge is ever written.
        """
        x = lengths * self.scale
        k = x.detach().nan_to_num().floor().clamp(0, self.n_intervals - 1)
        places = k.long()[:, None] + torch.arange(DEGREE + 1, device=k.device)
        weights = x.new_zeros(len(x), len(self.rows)).scatter(1, places, basis_splines(x - k))
        values = weights.to(self.rows.dtype) @ self.rows.flatten(1)
        return values.unflatten(1, self.rows.shape[1:])


def basis_splines(t: Float[Tensor, " points"]) -> Float[Tensor, "points splines"]:
    """The uniform B-splines that are not zero on the interval 0 to 1, by de Boor's recursion."""
    b = [torch.ones_like(t)]
    for degree in range(1, DEGREE + 1):
        left = [torch.zeros_like(t), *b]
        right = [*b, torch.zeros_like(t)]
        b = [
            ((t + (degree - j)) * left[j] + ((j + 1) - t) * right[j]) / degree
            for j in range(degree + 1)
        ]
    return torch.stack(b, dim=1)


def nodes(n_intervals: int, *, cutoff: float) -> Float[np.ndarray, " nodes"]:
    """Distances in Å at which `interpolation` takes a function: knots, two beyond the cutoff."""
    return np.arange(n_intervals + 1 + _BEYOND) * (cutoff / n_intervals)


def interpolation(n_intervals: int) -> Float[np.ndarray, "intervals_and_degree nodes"]:
    """The matrix that makes coefficients of a function's values at `nodes`.

    The spline has these values. It is even, as all functions of a distance are that are smooth
    where two atoms meet: splines centred at -r and r have the same coefficient. At the other end,
    its last piece before the cutoff goes on to the last node.
    """
    n_nodes = n_intervals + 1 + _BEYOND
    free = np.zeros((n_nodes + 2 * _BEYOND, n_nodes))  # all coefficients by those from r = 0 on
    free[_BEYOND:-_BEYOND] = np.eye(n_nodes)
    free[:_BEYOND] = free[2 * _BEYOND : _BEYOND : -1]
    for row in range(n_nodes + _BEYOND, len(free)):
        before = free[row - 1 : row - 1 - len(_CONTINUED) : -1]
        free[row] = _CONTINUED @ before
    at_nodes = sum(b * free[j : j + n_nodes] for j, b in enumerate(_AT_A_KNOT))
    return (free @ np.linalg.inv(at_nodes))[: n_intervals + DEGREE]
