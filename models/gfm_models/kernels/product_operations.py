"""Fused products at the nodes as torch operations, differentiable as often as one likes.

With x = (u, w), F = Σ G · out(x) and changes dx of x:

    value(x) = out                     d/dx · G = gradient(G, x)
    gradient(G, x) = dF/dx             d/dG · v = tangent(x, v),   d/dx · v = curvature(G, x, v)
    tangent(x, dx) = out'(x) dx        d/ddx · G = gradient(G, x), d/dx · G = curvature(G, x, dx)
    curvature(G, x, dx) = F''(x) dx    d/ddx · v = curvature(G, x, v), and torch for the others

`product` is the three numbers of a `NodeProduct`.
"""

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gfm_models.harmonics import n_harmonics
from gfm_models.kernels.node_product import NodeProduct, all_points, polynomial, slope
from gfm_models.kernels.operations import Operation
from gfm_models.kernels.product_library import Pair, ProductLibrary, product_library


def node_product(
    features: Float[Tensor, "nodes components channels"],
    weights: Float[Tensor, "nodes powers channels"],
    *,
    product: NodeProduct,
) -> Float[Tensor, "nodes components_out channels"]:
    """The fused product of `NodeProduct`, which torch can differentiate; on the CPU."""
    return node_product_value(features, weights, list(astuple(product)))


@Operation
def node_product_value(features: Tensor, weights: Tensor, product: Sequence[int]) -> Tensor:
    """The product."""
    return _library(product, features).value((features, weights))


@Operation
def node_product_gradient(
    cotangent: Tensor, features: Tensor, weights: Tensor, product: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Gradients of Σ cotangent · product by features and weights."""
    return _library(product, features).gradient(cotangent, (features, weights))


@Operation
def node_product_tangent(
    features: Tensor,
    weights: Tensor,
    d_features: Tensor,
    d_weights: Tensor,
    product: Sequence[int],
) -> Tensor:
    """Change of the product when features and weights change."""
    library = _library(product, features)
    return library.tangent((features, weights), (d_features, d_weights))


@Operation
def node_product_curvature(
    cotangent: Tensor,
    features: Tensor,
    weights: Tensor,
    d_features: Tensor,
    d_weights: Tensor,
    product: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Change of the gradients when features and weights change."""
    library = _library(product, features)
    return library.curvature(cotangent, (features, weights), (d_features, d_weights))


# Shapes alone, for torch.compile and export.


@node_product_value.shapes
@node_product_tangent.shapes
def _(features: Tensor, *others: Any) -> Tensor:
    n_nodes, _, channels = features.shape
    return features.new_empty(n_nodes, n_harmonics(others[-1][1]), channels)


@node_product_gradient.shapes
@node_product_curvature.shapes
def _(_: Tensor, features: Tensor, weights: Tensor, *__: Any) -> Pair:
    return features.new_empty(features.shape), weights.new_empty(weights.shape)


# Derivatives.


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001 (torch's)
    *tensors, ctx.product = inputs
    ctx.save_for_backward(*tensors)


def _value_backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    return (*node_product_gradient(cotangent, *ctx.saved_tensors, ctx.product), None)


def _gradient_backward(ctx: Any, *change: Tensor) -> tuple[Tensor | None, ...]:
    cotangent, *at = ctx.saved_tensors
    to_at = node_product_curvature(cotangent, *at, *change, ctx.product)
    return (node_product_tangent(*at, *change, ctx.product), *to_at, None)


def _tangent_backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    both, product = ctx.saved_tensors, ctx.product
    to_at = node_product_curvature(cotangent, *both, product)
    return (*to_at, *node_product_gradient(cotangent, *both[:2], product), None)


def _curvature_backward(ctx: Any, *second: Tensor) -> tuple[Tensor | None, ...]:
    """With v = `second`, the gradient of v · F''(x) dx.

    It is symmetric in dx = (du, dw) and v = (v_u, v_w): with a = Y du, b = Y v_u and the
    polynomials P, D and V that have the weights w, dw and v_w,

        v · F''(x) dx = Σ_points (Y G) (P'' a b + D' b + V' a).
    """
    cotangent, features, weights, *change = ctx.saved_tensors
    to_sphere, back = all_points(NodeProduct(*ctx.product), features.dtype)
    f, a, b = (to_sphere @ u for u in (features, change[0], second[0]))
    g, ab = back.mT @ cotangent, a * b

    def mixed(derivative: int) -> Tensor:
        """P'' a b + D' b + V' a, or its derivative by f."""
        return (
            polynomial(f, weights, derivative=derivative + 2) * ab
            + polynomial(f, change[1], derivative=derivative + 1) * b
            + polynomial(f, second[1], derivative=derivative + 1) * a
        )

    to_weights = [
        slope(k, 2) * (g * f ** (k - 2) * ab).sum(1) if k > 1 else torch.zeros_like(weights[:, 0])
        for k in range(1, weights.shape[1] + 1)
    ]
    to_change = node_product_curvature(cotangent, features, weights, *second, ctx.product)
    to_features = to_sphere.mT @ (g * mixed(1))
    return (back @ mixed(0), to_features, torch.stack(to_weights, 1), *to_change, None)


node_product_value.derivative(_value_backward, setup=_keep_inputs)
node_product_gradient.derivative(_gradient_backward, setup=_keep_inputs)
node_product_tangent.derivative(_tangent_backward, setup=_keep_inputs)
node_product_curvature.derivative(_curvature_backward, setup=_keep_inputs)


def _library(product: Sequence[int], features: Tensor) -> ProductLibrary:
    return product_library(NodeProduct(*product), features.dtype)
