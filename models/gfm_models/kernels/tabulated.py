"""The fused edge operation with radial weights from a table, for inference.

The weights are read off inside the compiled function and are never written down. Its first
derivatives are fused; where they are to be differentiated again, as for a Hessian, the weights are
read off first and handed to the other fused operations, which can be.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gfm_models.kernels.fused import edge_value, empty_value, unflatten_paths
from gfm_models.kernels.fused_spline import fused_spline
from gfm_models.kernels.library import Triple
from gfm_models.kernels.operations import Operation
from gfm_models.kernels.tabulated_library import tabulated_library


@Operation
def tabulated_value(
    lengths: Tensor,
    harmonics: Tensor,
    features: Tensor,
    rows: Tensor,
    scale: float,
    order: Tensor,
    paths: Sequence[int],
) -> Tensor:
    """T(R(lengths), Y, h); lengths are float64, the others have the precision of `features`."""
    library = tabulated_library(unflatten_paths(paths), features.dtype)
    at = (lengths.contiguous(), harmonics.contiguous(), features.contiguous())
    return library.value(at, rows, scale, order)


@Operation
def tabulated_gradient(
    cotangent: Tensor,
    lengths: Tensor,
    harmonics: Tensor,
    features: Tensor,
    rows: Tensor,
    scale: float,
    order: Tensor,
    paths: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of Σ cotangent · T by lengths, harmonics and features."""
    library = tabulated_library(unflatten_paths(paths), features.dtype)
    at = (lengths.contiguous(), harmonics.contiguous(), features.contiguous())
    return library.gradient(cotangent.contiguous(), at, rows, scale, order)


@tabulated_value.shapes
def _(*inputs: Any) -> Tensor:
    return empty_value(*inputs[1:3], *inputs[-2:])


@tabulated_gradient.shapes
def _(*inputs: Any) -> Triple:
    lengths, harmonics, features = (x.new_empty(x.shape) for x in inputs[1:4])
    return lengths, harmonics, features


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001 (torch's)
    *at, rows, ctx.scale, order, ctx.paths = inputs
    ctx.save_for_backward(*at, rows, order)


def _backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    *at, rows, order = ctx.saved_tensors
    if torch.is_grad_enabled():
        gradients = _differentiable_gradient(cotangent, at, rows, ctx.scale, order, ctx.paths)
    else:
        gradients = tabulated_gradient(cotangent, *at, rows, ctx.scale, order, ctx.paths)
    return (*gradients, None, None, None, None)


def _differentiable_gradient(
    cotangent: Tensor,
    at: Sequence[Tensor],
    rows: Tensor,
    scale: float,
    order: Tensor,
    paths: Sequence[int],
) -> tuple[Tensor, ...]:
    # Views, for the gradient is by what is used here: harmonics may depend on the lengths, too.
    lengths, harmonics, features = (
        x.view_as(x) if x.requires_grad else x.detach().requires_grad_() for x in at
    )
    radial = fused_spline(lengths, rows, scale)
    value = edge_value(radial, harmonics, features, order, paths)
    return torch.autograd.grad(value, (lengths, harmonics, features), cotangent, create_graph=True)


tabulated_value.derivative(_backward, setup=_keep_inputs)
