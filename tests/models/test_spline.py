"""Splines: exact for polynomials, smooth, and as close to a function as they promise."""

import pytest
import torch
from gfm_models.kernels import spline
from gfm_models.kernels.spline import DEGREE, RadialTable, basis_splines, tabulate
from gfm_models.layers.radial import BesselBasis
from torch import Tensor

CUTOFF = 4.0


def polynomials(r: Tensor) -> Tensor:
    """All powers up to the degree of the splines, as paths and channels."""
    return torch.stack([(r / CUTOFF) ** n for n in range(DEGREE + 1)], dim=-1).unflatten(-1, (2, 3))


def waves(r: Tensor) -> Tensor:
    return torch.stack([torch.cos(7 * r), torch.sin(3 * r + 1)], dim=-1)[:, None]


def test_basis_splines_are_a_partition_of_unity() -> None:
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    b = basis_splines(t)
    assert b.shape == (11, DEGREE + 1)
    assert (b >= 0).all()
    torch.testing.assert_close(b.sum(1), torch.ones_like(t), atol=1e-14, rtol=0)


def test_a_table_of_polynomials_is_exact() -> None:
    r = torch.linspace(0, CUTOFF, 1001, dtype=torch.float64)
    table = tabulate(polynomials, cutoff=CUTOFF)
    torch.testing.assert_close(table(r), polynomials(r), atol=1e-11, rtol=0)
    assert table.n_intervals == spline.FIRST_INTERVALS
    assert table.rows.shape == (table.n_intervals + DEGREE, 2, 3)


def test_four_derivatives_are_continuous_at_a_knot() -> None:
    """Random coefficients: no smooth function stands behind them."""
    rows = torch.randn(8 + DEGREE, 1, 1, generator=torch.Generator().manual_seed(0)).double()
    table = RadialTable(rows=rows, scale=2.0)
    knot = 3 / table.scale
    r = torch.tensor([knot - 1e-9, knot + 1e-9], dtype=torch.float64, requires_grad=True)
    values = table(r)[:, 0, 0]
    jumps = []
    for _ in range(DEGREE + 1):
        jumps.append((values[1] - values[0]).abs().item())
        if values.requires_grad:
            (values,) = torch.autograd.grad(values.sum(), r, create_graph=True)
    assert max(jumps[:DEGREE]) < 1e-5
    assert jumps[DEGREE] > 1e-2, "the fifth derivative jumps: the test can see a jump"


def test_it_is_as_close_as_promised() -> None:
    r = torch.rand(5000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * CUTOFF
    error = (tabulate(waves, cutoff=CUTOFF)(r) - waves(r)).abs().max()
    assert error < 2 * spline.TOLERANCE * waves(r).square().mean().sqrt()


def test_more_intervals_where_they_are_needed() -> None:
    def quick(r: Tensor) -> Tensor:
        return torch.sin(60 * r)[:, None, None]

    assert tabulate(quick, cutoff=CUTOFF).n_intervals > spline.FIRST_INTERVALS


def test_rough_functions_are_refused() -> None:
    def rough(r: Tensor) -> Tensor:
        return (r > CUTOFF / 2).double()[:, None, None]

    with pytest.raises(ValueError, match=r"cannot be tabulated to 1e-06 with 1024 intervals"):
        tabulate(rough, cutoff=CUTOFF)


def test_the_basis_of_the_network_is_smooth_from_contact_to_cutoff() -> None:
    basis = BesselBasis(n_radial=8, cutoff=CUTOFF, dtype=torch.float64)
    table = tabulate(lambda r: basis(r)[:, None], cutoff=CUTOFF)
    r = torch.tensor([1e-6, 1e-3, CUTOFF], dtype=torch.float64)
    torch.testing.assert_close(table(r)[:, 0], basis(r), atol=1e-5, rtol=1e-5)
