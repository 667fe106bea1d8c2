"""Splines: through the values they are made of, even, smooth, and of sixth order."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from gfm_models.kernels.spline import DEGREE, RadialTable, basis_splines, interpolation, nodes
from torch import Tensor

CUTOFF = 4.0


def interpolated(function: Callable[[Tensor], Tensor], n_intervals: int) -> RadialTable:
    """The spline through a function of distances with many columns."""
    values = function(torch.from_numpy(nodes(n_intervals, cutoff=CUTOFF)))
    rows = torch.from_numpy(interpolation(n_intervals)) @ values
    return RadialTable(rows=rows[:, None], scale=n_intervals / CUTOFF)


def even_polynomials(r: Tensor) -> Tensor:
    return torch.stack([(r / CUTOFF) ** n for n in (0, 2, 4)], dim=-1)


def even_waves(r: Tensor) -> Tensor:
    return torch.stack([torch.cos(7 * r), torch.sinc(2 * r), torch.exp(-(r**2))], dim=-1)


def distances(n: int) -> Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * CUTOFF


def test_basis_splines_are_a_partition_of_unity() -> None:
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    b = basis_splines(t)
    assert b.shape == (11, DEGREE + 1)
    assert (b >= 0).all()
    torch.testing.assert_close(b.sum(1), torch.ones_like(t), atol=1e-14, rtol=0)


def test_a_spline_has_the_values_that_it_was_made_of() -> None:
    """Whatever they are: no smooth function stands behind these."""
    n = 16
    values = torch.randn(n + 3, 2, generator=torch.Generator().manual_seed(0)).double()
    table = interpolated(lambda _: values, n)
    assert table.rows.shape == (n + DEGREE, 1, 2)
    assert table.n_intervals == n
    knots = torch.from_numpy(nodes(n, cutoff=CUTOFF)[: n + 1])
    torch.testing.assert_close(table(knots)[:, 0], values[: n + 1], atol=1e-13, rtol=0)


@pytest.mark.parametrize("n_intervals", [8, 9, 256, 1024])
def test_even_polynomials_are_exact(n_intervals: int) -> None:
    r = distances(1000)
    found = interpolated(even_polynomials, n_intervals)(r)[:, 0]
    torch.testing.assert_close(found, even_polynomials(r), atol=1e-12, rtol=0)


def test_errors_fall_with_the_sixth_power_up_to_both_ends() -> None:
    r = torch.linspace(0, CUTOFF, 4001, dtype=torch.float64)
    errors = [
        (interpolated(even_waves, n)(r)[:, 0] - even_waves(r)).abs().amax(0) for n in (32, 64, 128)
    ]
    for coarse, fine in pairwise(errors):
        assert (coarse / fine > 40).all(), "64 is the sixth power of 2"
    assert errors[-1].max() < 1e-6


def test_a_spline_is_even() -> None:
    """Odd derivatives vanish where two atoms meet."""
    values = torch.randn(19, 2, generator=torch.Generator().manual_seed(0)).double()
    first, _, third = derivatives(interpolated(lambda _: values, 16), torch.zeros(1).double())[1:4]
    assert first.abs().item() < 1e-11
    assert third.abs().item() < 1e-9


def test_four_derivatives_are_continuous_at_a_knot() -> None:
    """Random coefficients: no smooth function stands behind them."""
    rows = torch.randn(8 + DEGREE, 1, 1, generator=torch.Generator().manual_seed(0)).double()
    table = RadialTable(rows=rows, scale=2.0)
    knot = 3 / table.scale
    r = torch.tensor([knot - 1e-9, knot + 1e-9], dtype=torch.float64)
    jumps = [(d[1] - d[0]).abs().item() for d in derivatives(table, r)]
    assert max(jumps[:DEGREE]) < 1e-5
    assert jumps[DEGREE] > 1e-2, "the fifth derivative jumps: the test can see a jump"


def derivatives(table: RadialTable, r: Tensor) -> list[Tensor]:
    """The sum of all columns and its derivatives, point by point."""
    r = r.clone().requires_grad_()
    found = [table(r).sum((1, 2))]
    for _ in range(DEGREE):
        found += torch.autograd.grad(found[-1].sum(), r, create_graph=True)
    return [f.detach() for f in found]


def test_lengths_without_a_value_have_no_weights() -> None:
    rows = torch.ones(8 + DEGREE, 1, 1, dtype=torch.float64)
    values = RadialTable(rows=rows, scale=2.0)(torch.tensor([np.nan, 1.0], dtype=torch.float64))
    assert values.flatten().isnan().tolist() == [True, False]
