"""The fused edge operation as torch operations, differentiable as often as one likes.

T is linear in R, Y and h, so that four compiled functions are closed under differentiation. With
F = Σ G · T(R, Y, h), x = (R, Y, h) and changes u, v of x:

    value(x) = T                       d/dx · G = gradient(G, x)
    gradient(G, x) = dF/dx             d/dG · u = tangent(x, u),  d/dx · u = curvature(G, x, u)
    tangent(x, u) = T'(x) u            d/du · G = gradient(G, x), d/dx · G = curvature(G, x, u)
    curvature(G, x, u) = F''(x) u      d/du · v = curvature(G, x, v), and the polarised forms below

`order` is what `order_edges` returns, `paths` three degrees for each path.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from gfm_models.harmonics import n_harmonics
from gfm_models.kernels.edge_library import EdgeLibrary, edge_library
from gfm_models.kernels.edge_order import order_by_torch
from gfm_models.kernels.library import Triple, order_edges, order_length, receivers_in
from gfm_models.kernels.operations import Operation
from gfm_models.kernels.paths import Path
from gfm_models.kernels.triton_library import TritonLibrary, triton_library


def flatten_paths(paths: Sequence[Path]) -> list[int]:
    """Degrees in a row, for torch operations take no other."""
    return [degree for path in paths for degree in (path.l_in, path.l_edge, path.l_out)]


def unflatten_paths(degrees: Sequence[int]) -> tuple[Path, ...]:
    """The paths of `flatten_paths`."""
    rest = iter(degrees)
    return tuple(map(Path, rest, rest, rest))


def n_out_of(degrees: Sequence[int]) -> int:
    """Number of components that the paths of `flatten_paths` lead to."""
    return n_harmonics(max(degrees[2::3]))


def empty_value(
    harmonics: Tensor, features: Tensor, order: Tensor, degrees: Sequence[int]
) -> Tensor:
    """Something of the shape of T."""
    n_receivers = receivers_in(order, n_senders=features.shape[0], n_edges=harmonics.shape[0])
    return features.new_empty(n_receivers, n_out_of(degrees), features.shape[2])


@Operation
def edge_order(edge_index: Tensor, n_senders: int, n_receivers: int) -> Tensor:
    """Edges by receiver and by sender."""
    return order_edges(edge_index.contiguous(), n_senders=n_senders, n_receivers=n_receivers)


@Operation
def edge_value(
    radial: Tensor, harmonics: Tensor, features: Tensor, order: Tensor, paths: Sequence[int]
) -> Tensor:
    """T(R, Y, h)."""
    at = _contiguous(radial, harmonics, features)
    return _library(paths, features).value(at, order)


@Operation
def edge_gradient(
    cotangent: Tensor,
    radial: Tensor,
    harmonics: Tensor,
    features: Tensor,
    order: Tensor,
    paths: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of Σ cotangent · T by R, Y and h."""
    at = _contiguous(radial, harmonics, features)
    return _library(paths, features).gradient(cotangent.contiguous(), at, order)


@Operation
def edge_tangent(
    radial: Tensor,
    harmonics: Tensor,
    features: Tensor,
    d_radial: Tensor,
    d_harmonics: Tensor,
    d_features: Tensor,
    order: Tensor,
    paths: Sequence[int],
) -> Tensor:
    """Change of T when R, Y and h change."""
    at = _contiguous(radial, harmonics, features)
    change = _contiguous(d_radial, d_harmonics, d_features)
    return _library(paths, features).tangent(at, change, order)


@Operation
def edge_curvature(
    cotangent: Tensor,
    radial: Tensor,
    harmonics: Tensor,
    features: Tensor,
    d_radial: Tensor,
    d_harmonics: Tensor,
    d_features: Tensor,
    order: Tensor,
    paths: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Change of the gradients when R, Y and h change."""
    at = _contiguous(radial, harmonics, features)
    change = _contiguous(d_radial, d_harmonics, d_features)
    library = _library(paths, features)
    return library.curvature(cotangent.contiguous(), at, change, order)


# On accelerators, too.

for _operation in (edge_value, edge_gradient, edge_tangent, edge_curvature):
    _operation.on_accelerators(_operation.function)


@edge_order.on_accelerators
def _(edge_index: Tensor, n_senders: int, n_receivers: int) -> Tensor:
    return order_by_torch(edge_index.contiguous(), n_senders=n_senders, n_receivers=n_receivers)


# Shapes alone, for torch.compile and export.


@edge_order.shapes
def _(edge_index: Tensor, n_senders: int, n_receivers: int) -> Tensor:
    return edge_index.new_empty(order_length(n_senders, n_receivers, edge_index.shape[1]))


@edge_value.shapes
@edge_tangent.shapes
def _(*inputs: Any) -> Tensor:
    return empty_value(*inputs[1:3], *inputs[-2:])


@edge_gradient.shapes
@edge_curvature.shapes
def _(*inputs: Any) -> Triple:
    radial, harmonics, features = (x.new_empty(x.shape) for x in inputs[1:4])
    return radial, harmonics, features


# Derivatives.


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001 (torch's)
    *tensors, ctx.paths = inputs
    ctx.save_for_backward(*tensors)


def _value_backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    return (*edge_gradient(cotangent, *ctx.saved_tensors, ctx.paths), None, None)


def _gradient_backward(ctx: Any, *change: Tensor) -> tuple[Tensor | None, ...]:
    cotangent, *at, order = ctx.saved_tensors
    end = (order, ctx.paths)
    to_at = edge_curvature(cotangent, *at, *change, *end)
    return (edge_tangent(*at, *change, *end), *to_at, None, None)


def _tangent_backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    *both, order = ctx.saved_tensors
    end = (order, ctx.paths)
    to_at = edge_curvature(cotangent, *both, *end)
    return (*to_at, *edge_gradient(cotangent, *both[:3], *end), None, None)


def _curvature_backward(ctx: Any, *second: Tensor) -> tuple[Tensor | None, ...]:
    """With v = `second`, the gradient of v · F''(x) u.

    By G it is T''(x)[u, v] and by x the third derivative of F along u and v; T' u is quadratic in x
    and dF/dx too, so both are differences of theirs, q(u + v) - q(u) - q(v).
    """
    cotangent, *both, order = ctx.saved_tensors
    at, change, end = both[:3], both[3:], (order, ctx.paths)
    moved = [x + v for x, v in zip(at, second, strict=True)]
    to_cotangent = (
        edge_tangent(*moved, *change, *end)
        - edge_tangent(*at, *change, *end)
        - edge_tangent(*second, *change, *end)
    )
    sums = [u + v for u, v in zip(change, second, strict=True)]
    of_both, of_change, of_second = (
        edge_gradient(cotangent, *x, *end) for x in (sums, change, second)
    )
    to_at = (b - u - v for b, u, v in zip(of_both, of_change, of_second, strict=True))
    to_change = edge_curvature(cotangent, *at, *second, *end)
    return (to_cotangent, *to_at, *to_change, None, None)


edge_value.derivative(_value_backward, setup=_keep_inputs)
edge_gradient.derivative(_gradient_backward, setup=_keep_inputs)
edge_tangent.derivative(_tangent_backward, setup=_keep_inputs)
edge_curvature.derivative(_curvature_backward, setup=_keep_inputs)


def _library(paths: Sequence[int], features: Tensor) -> EdgeLibrary | TritonLibrary:
    """Compiled C for the CPU, Triton elsewhere."""
    library = edge_library if features.device.type == "cpu" else triton_library
    return library(unflatten_paths(paths), features.dtype)


def _contiguous(radial: Tensor, harmonics: Tensor, features: Tensor) -> Triple:
    return radial.contiguous(), harmonics.contiguous(), features.contiguous()
