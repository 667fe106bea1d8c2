"""Compiled splines: the same as in torch, with all derivatives, on any number of threads."""

import pytest
import torch
from gfm_models.kernels.backend import Backend
from gfm_models.kernels.fused_spline import (
    fused_spline,
    spline_basis,
    spline_places,
    spline_to_rows,
    spline_to_weights,
    spline_value,
)
from gfm_models.kernels.spline import DEGREE, RadialTable
from gfm_models.kernels.spline_library import spline_library
from gfm_models.kernels.spline_operation import read_spline
from torch import Tensor

N_INTERVALS, CUTOFF = 16, 4.0
SCALE = N_INTERVALS / CUTOFF
PRECISIONS = [(torch.float64, 1e-12), (torch.float32, 1e-5)]


class Problem:
    """Lengths from contact to beyond the cutoff, knots among them, and random coefficients."""

    def __init__(
        self, dtype: torch.dtype = torch.float64, *, channels: int = 5, n_edges: int = 60
    ) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.lengths = CUTOFF * torch.rand(n_edges, generator=self.generator, dtype=torch.float64)
        special = torch.tensor([0.0, CUTOFF, 1 / SCALE, 1.01 * CUTOFF, 7 / SCALE])
        self.lengths[: min(5, n_edges)] = special[:n_edges].double()
        self.lengths.requires_grad_()
        self.rows = self.random(N_INTERVALS + DEGREE, 3, channels).to(dtype).requires_grad_()
        self.cotangent = self.random(n_edges, 3, channels).to(dtype)
        self.of_lengths, self.of_rows = self.random(n_edges), self.random(*self.rows.shape)

    def random(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def derivatives(self, backend: Backend) -> list[Tensor]:
        """Value, first derivatives, and all second and third ones along random directions."""
        table = RadialTable(rows=self.rows, scale=SCALE)
        value = read_spline(table, self.lengths, backend=backend)[..., : self.rows.shape[-1]]
        found, at = [value], (self.lengths, self.rows)
        of_at = (self.of_lengths, self.of_rows.to(self.rows.dtype))
        last = (value * value * self.cotangent).sum()  # not linear in the coefficients
        for _ in range(3):
            gradients = torch.autograd.grad(last, at, create_graph=True)
            found += gradients
            last = torch.stack([(g * w).sum() for g, w in zip(gradients, of_at, strict=True)]).sum()
        return [f.detach() for f in found]


@pytest.mark.parametrize("channels", [1, 48])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS, ids=str)
def test_same_derivatives_as_in_torch(channels: int, dtype: torch.dtype, tolerance: float) -> None:
    problem = Problem(dtype, channels=channels)
    for found, expected in zip(
        problem.derivatives("fused"), problem.derivatives("reference"), strict=True
    ):
        assert found.dtype == expected.dtype
        atol = tolerance * expected.abs().max().item()
        torch.testing.assert_close(found, expected, atol=atol, rtol=0)
        assert found.any()


@pytest.mark.parametrize("derivative", range(DEGREE + 3))
def test_derivatives_of_the_basis(derivative: int) -> None:
    """By torch's own derivatives of de Boor's recursion, also those that vanish."""
    lengths = Problem().lengths
    x = lengths * SCALE
    table = RadialTable(rows=torch.eye(N_INTERVALS + DEGREE).double()[:, None], scale=SCALE)
    columns = []
    for column in table(lengths)[:, 0].unbind(1):
        for _ in range(derivative):
            if column.requires_grad:
                (column,) = torch.autograd.grad(
                    column.sum(), lengths, create_graph=True, materialize_grads=True
                )
        columns.append(column.detach() if derivative <= DEGREE else torch.zeros_like(column))
    first = x.detach().floor().clamp(0, N_INTERVALS - 1).long()[:, None] + torch.arange(DEGREE + 1)
    expected = torch.stack(columns, 1).gather(1, first)
    found = spline_basis(lengths.detach(), N_INTERVALS, SCALE, derivative)
    torch.testing.assert_close(found, expected, atol=1e-12 * SCALE**derivative, rtol=0)


def test_gradients_by_finite_differences() -> None:
    problem = Problem(channels=spline_library(torch.float64).lanes, n_edges=7)
    lengths = (problem.lengths.detach() + 0.01).requires_grad_()  # off the knots

    def value(lengths: Tensor, rows: Tensor) -> Tensor:
        return fused_spline(lengths, rows, SCALE)

    inputs = (lengths, problem.rows)
    assert torch.autograd.gradcheck(value, inputs)
    assert torch.autograd.gradgradcheck(value, inputs)


def test_operations_are_registered_soundly() -> None:
    problem = Problem(channels=spline_library(torch.float64).lanes)
    grid = (N_INTERVALS, SCALE)
    rows, cotangent = problem.rows.flatten(1), problem.cotangent.flatten(1)
    places = spline_places(problem.lengths.detach(), *grid)
    weights = spline_basis(problem.lengths, *grid, 0).detach().requires_grad_()
    rows, cotangent = rows.detach().requires_grad_(), cotangent.requires_grad_()
    torch.library.opcheck(spline_places.overload, (problem.lengths.detach(), *grid))
    torch.library.opcheck(spline_basis.overload, (problem.lengths, *grid, 1))
    torch.library.opcheck(spline_value.overload, (weights, rows, places))
    torch.library.opcheck(spline_to_weights.overload, (rows, cotangent, places))
    torch.library.opcheck(spline_to_rows.overload, (weights, cotangent, places))


def test_threads_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gfm_models.kernels.spline_library.WORK_OF_A_THREAD", 1)
    problem = Problem(torch.float32, channels=40)
    one = problem.derivatives("fused")
    torch.set_num_threads(3)
    try:
        three = problem.derivatives("fused")
    finally:
        torch.set_num_threads(1)
    assert all(map(torch.equal, one, three))


def test_no_edges() -> None:
    found = Problem(n_edges=0).derivatives("fused")
    assert found[0].shape == (0, 3, 5)
    assert not found[2].any()


def test_lengths_without_a_value_have_no_weights() -> None:
    lengths = torch.tensor([float("nan"), 1.0], dtype=torch.float64)
    values = fused_spline(lengths, torch.ones(N_INTERVALS + DEGREE, 1, 16).double(), SCALE)
    assert values.isnan().all(2).flatten().tolist() == [True, False]


def test_what_does_not_fit_is_refused() -> None:
    lanes = spline_library(torch.float64).lanes
    lengths, rows = torch.ones(4, dtype=torch.float64), torch.ones(9, lanes, dtype=torch.float64)
    weights, places = spline_basis(lengths, 4, 1.0, 0), spline_places(lengths, 4, 1.0)
    with pytest.raises(ValueError, match=r"lengths must be float64 in one row, got torch.float32"):
        spline_places(lengths.float(), 4, 1.0)
    with pytest.raises(ValueError, match=r"takes a torch.float64 tensor of shape \[9, .*\[8, "):
        spline_value(weights, rows[1:], places)
    with pytest.raises(ValueError, match=r"`places` are those of other points"):
        spline_value(weights, rows, places[:8])
    with pytest.raises(ValueError, match=r"`places` are those of other points"):
        spline_value(weights, rows, places.zero_())
    with pytest.raises(ValueError, match=r"must be float64 of shape \[4, 6\], got torch.float32"):
        spline_value(weights.float(), rows, spline_places(lengths, 4, 1.0))
