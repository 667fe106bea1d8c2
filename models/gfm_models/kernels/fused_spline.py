"""Splines read at many points as torch operations, differentiable as often as one likes.

With F = Σ_e Σ_j Σ_c B[e, j] W[k_e + j, c] G[e, c], linear in each of B, W and G, three compiled
functions are closed under differentiation: each is the gradient of F by one of them.

    value(B, W)      by G      d/dB · G = to_weights(W, G), d/dW · G = to_rows(B, G)
    to_weights(W, G) by B      d/dW · u = to_rows(u, G),    d/dG · u = value(u, W)
    to_rows(B, G)    by W      d/dB · u = to_weights(u, G), d/dG · u = value(B, u)

symbol → variable: B → weights, W → rows, G → cotangent. B depends on the lengths, and its
derivative by them is of the same kind: `spline_basis` with one more `derivative`.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gfm_models.kernels.operations import Operation
from gfm_models.kernels.spline import DEGREE
from gfm_models.kernels.spline_library import (
    SplineLibrary,
    basis_of,
    intervals_in,
    places_length,
    places_of,
    spline_library,
)


def fused_spline(
    lengths: Float[Tensor, " edges"], rows: Float[Tensor, "rows paths channels"], scale: float
) -> Float[Tensor, "edges paths channels"]:
    """As `RadialTable`, for float64 lengths and whole vectors of channels."""
    n_intervals = len(rows) - DEGREE
    weights = spline_basis(lengths, n_intervals, scale, 0)
    places = spline_places(lengths.detach(), n_intervals, scale)
    return spline_value(weights, rows.flatten(1), places).unflatten(1, rows.shape[1:])


@Operation
def spline_places(lengths: Tensor, n_intervals: int, scale: float) -> Tensor:
    """The interval of each point, and points by interval."""
    return places_of(lengths.contiguous(), n_intervals=n_intervals, scale=scale)


@Operation
def spline_basis(lengths: Tensor, n_intervals: int, scale: float, derivative: int) -> Tensor:
    """B, or one of its derivatives by the lengths."""
    sizes = {"n_intervals": n_intervals, "scale": scale, "derivative": derivative}
    return basis_of(lengths.contiguous(), **sizes)


@Operation
def spline_value(weights: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    """Σ_j B[e, j] W[k_e + j]."""
    return _library(rows).value(weights.contiguous(), rows.contiguous(), places)


@Operation
def spline_to_weights(rows: Tensor, cotangent: Tensor, places: Tensor) -> Tensor:
    """Gradient of F by B."""
    return _library(rows).to_weights(rows.contiguous(), cotangent.contiguous(), places)


@Operation
def spline_to_rows(weights: Tensor, cotangent: Tensor, places: Tensor) -> Tensor:
    """Gradient of F by W."""
    return _library(cotangent).to_rows(weights.contiguous(), cotangent.contiguous(), places)


# Shapes alone, for torch.compile and export.


@spline_places.shapes
def _(lengths: Tensor, n_intervals: int, scale: float) -> Tensor:  # noqa: ARG001 (same arguments)
    length = places_length(lengths.shape[0], n_intervals)
    return lengths.new_empty(length, dtype=torch.int64)


@spline_basis.shapes
def _(lengths: Tensor, *options: Any) -> Tensor:  # noqa: ARG001 (same arguments)
    return lengths.new_empty(lengths.shape[0], DEGREE + 1)


@spline_value.shapes
def _(weights: Tensor, rows: Tensor, places: Tensor) -> Tensor:  # noqa: ARG001 (same arguments)
    return rows.new_empty(weights.shape[0], rows.shape[1])


@spline_to_weights.shapes
def _(rows: Tensor, cotangent: Tensor, places: Tensor) -> Tensor:  # noqa: ARG001 (same arguments)
    return cotangent.new_empty(cotangent.shape[0], DEGREE + 1, dtype=torch.float64)


@spline_to_rows.shapes
def _(weights: Tensor, cotangent: Tensor, places: Tensor) -> Tensor:
    n_intervals = intervals_in(places, n_points=weights.shape[0])
    return cotangent.new_empty(n_intervals + DEGREE, cotangent.shape[1])


# Derivatives.


def _keep_lengths(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001 (torch's)
    lengths, *ctx.grid, ctx.derivative = inputs
    ctx.save_for_backward(lengths)


def _basis_backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    slopes = spline_basis(*ctx.saved_tensors, *ctx.grid, ctx.derivative + 1)
    return (cotangent * slopes).sum(1), None, None, None


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001 (torch's)
    ctx.save_for_backward(*inputs)


def _value_backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    weights, rows, places = ctx.saved_tensors
    by_weights, by_rows, _ = ctx.needs_input_grad
    return (
        spline_to_weights(rows, cotangent, places) if by_weights else None,
        spline_to_rows(weights, cotangent, places) if by_rows else None,
        None,
    )


def _to_weights_backward(ctx: Any, change: Tensor) -> tuple[Tensor | None, ...]:
    rows, cotangent, places = ctx.saved_tensors
    by_rows, by_cotangent, _ = ctx.needs_input_grad
    return (
        spline_to_rows(change, cotangent, places) if by_rows else None,
        spline_value(change, rows, places) if by_cotangent else None,
        None,
    )


def _to_rows_backward(ctx: Any, change: Tensor) -> tuple[Tensor | None, ...]:
    weights, cotangent, places = ctx.saved_tensors
    by_weights, by_cotangent, _ = ctx.needs_input_grad
    return (
        spline_to_weights(change, cotangent, places) if by_weights else None,
        spline_value(weights, change, places) if by_cotangent else None,
        None,
    )


spline_basis.derivative(_basis_backward, setup=_keep_lengths)
spline_value.derivative(_value_backward, setup=_keep_inputs)
spline_to_weights.derivative(_to_weights_backward, setup=_keep_inputs)
spline_to_rows.derivative(_to_rows_backward, setup=_keep_inputs)


def _library(of: Tensor) -> SplineLibrary:
    return spline_library(of.dtype)
