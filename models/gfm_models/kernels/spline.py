"""Radial weights as splines: a table that gives any number of them for the price of six rows."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

DEGREE = 5
"""Four continuous derivatives: forces and force constants are smooth."""

FIRST_INTERVALS, MOST_INTERVALS = 128, 1024
SAMPLES_PER_INTERVAL = 4
TOLERANCE = 1e-6
"""Largest error of a table, in units of the root mean square of what it stands for."""


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
        """The spline itself, in plain torch."""
        x = lengths * self.scale
        k = x.detach().floor().clamp(0, self.n_intervals - 1)
        weights = basis_splines(x - k)
        rows = k.long()[:, None] + torch.arange(DEGREE + 1, device=k.device)
        return torch.einsum("ej,ejpc->epc", weights.to(self.rows.dtype), self.rows[rows])


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


def tabulate(
    radial: Callable[[Float[Tensor, " points"]], Float[Tensor, "points paths channels"]],
    *,
    cutoff: float,
) -> RadialTable:
    """A table of `radial` in float64, with as many intervals as TOLERANCE asks for.

    The coefficients are those of least squared error at several points of each interval, so that
    nothing need be known of derivatives at the ends.

    Raises:
        ValueError: the function is too rough for the longest table.
    """
    n_intervals, error = FIRST_INTERVALS, torch.inf
    while n_intervals <= MOST_INTERVALS:
        table = _fit(radial, n_intervals, cutoff=cutoff)
        error = _error(table, radial, cutoff=cutoff)
        if error <= TOLERANCE:
            return table
        n_intervals *= 2
    raise ValueError(
        f"radial weights cannot be tabulated to {TOLERANCE:.0e} with {MOST_INTERVALS} intervals, "
        f"the error is {error:.0e}; use them untabulated"
    )


def _fit(radial: Callable[[Tensor], Tensor], n_intervals: int, *, cutoff: float) -> RadialTable:
    points = _points(n_intervals, cutoff=cutoff, per_interval=SAMPLES_PER_INTERVAL)
    scale = n_intervals / cutoff
    x = points * scale
    k = x.floor().clamp(0, n_intervals - 1)
    columns = k.long()[:, None] + torch.arange(DEGREE + 1)
    matrix = points.new_zeros(len(points), n_intervals + DEGREE)
    matrix.scatter_(1, columns, basis_splines(x - k))
    values = radial(points)
    rows = torch.linalg.lstsq(matrix, values.flatten(1)).solution
    return RadialTable(rows=rows.unflatten(1, values.shape[1:]), scale=scale)


def _error(table: RadialTable, radial: Callable[[Tensor], Tensor], *, cutoff: float) -> float:
    """Largest error between the points that the table was made of, relative to the mean square."""
    between = _points(table.n_intervals, cutoff=cutoff, per_interval=SAMPLES_PER_INTERVAL + 1)
    exact = radial(between)
    return ((table(between) - exact).abs().max() / exact.square().mean().sqrt()).item()


def _points(n_intervals: int, *, cutoff: float, per_interval: int) -> Float[Tensor, " points"]:
    """Evenly between 0 and the cutoff, without the ends: at 0 the basis functions are 0 / 0."""
    n_points = n_intervals * per_interval
    return (torch.arange(n_points, dtype=torch.float64) + 0.5) * (cutoff / n_points)
