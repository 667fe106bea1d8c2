"""The compiled products at the nodes, of one kind and precision.

`product_value` and `product_gradient` are what a hand-written derivative calls: plain functions
that torch does not differentiate.
"""

import ctypes
import functools

import torch
from jaxtyping import Float
from torch import Tensor

from gfm_models.kernels.library import (
    REALS,
    WORK_OF_A_THREAD,
    load_library,
    pointer,
    whole_vectors,
)
from gfm_models.kernels.node_product import NodeProduct
from gfm_models.kernels.product_generate import count_products, product_header

Pair = tuple[Tensor, Tensor]
"""Features and weights, or something of their shapes."""


def product_value(
    features: Float[Tensor, "nodes components channels"],
    weights: Float[Tensor, "nodes powers channels"],
    *,
    product: NodeProduct,
) -> Float[Tensor, "nodes components_out channels"]:
    """<Y Σ_k w_k f^k>, see `NodeProduct`; on the CPU and without autograd."""
    return product_library(product, features.dtype).value((features, weights))


def product_gradient(
    cotangent: Float[Tensor, "nodes components_out channels"],
    features: Float[Tensor, "nodes components channels"],
    weights: Float[Tensor, "nodes powers channels"],
    *,
    product: NodeProduct,
) -> tuple[Float[Tensor, "nodes components channels"], Float[Tensor, "nodes powers channels"]]:
    """Gradients of Σ cotangent · product by features and weights, without autograd."""
    return product_library(product, features.dtype).gradient(cotangent, (features, weights))


class _Shape(ctypes.Structure):
    _fields_ = [("n_nodes", ctypes.c_int64), ("channels", ctypes.c_int64)]


class _Arguments(ctypes.Structure):
    _fields_ = [("features", ctypes.c_void_p), ("weights", ctypes.c_void_p)]


class ProductLibrary:
    """The functions at the end of `sphere_product.c`, for any number of channels."""

    def __init__(self, product: NodeProduct, dtype: torch.dtype) -> None:
        headers = {"product.h": product_header(product)}
        self._functions = load_library("sphere_product", headers, defines={"REAL": REALS[dtype]})
        self.lanes: int = self._functions.product_lanes()
        self._product = product
        self._dtype = dtype
        self._n_products = count_products(product)

    def value(self, at: Pair) -> Tensor:
        """The product."""
        at_lanes = self._prepared(at)
        value = self._room(at_lanes, self._product.n_out)
        self._run("product_value", at_lanes, _arguments(at_lanes), pointer(value))
        return _without_padding(value, at)

    def tangent(self, at: Pair, change: Pair) -> Tensor:
        """Change of the product along `change`."""
        at_lanes, change_lanes = self._prepared(at), self._prepared(change)
        value = self._room(at_lanes, self._product.n_out)
        both = (_arguments(at_lanes), _arguments(change_lanes))
        self._run("product_tangent", at_lanes, *both, pointer(value))
        return _without_padding(value, at)

    def gradient(self, cotangent: Tensor, at: Pair) -> Pair:
        """Gradients of Σ cotangent · product by features and weights."""
        at_lanes = self._prepared(at)
        c = self._prepared_cotangent(cotangent, at)
        found = self._room_for_both(at_lanes)
        self._run("product_gradient", at_lanes, _arguments(at_lanes), *map(pointer, (c, *found)))
        return _without_padding(found[0], at), _without_padding(found[1], at)

    def curvature(self, cotangent: Tensor, at: Pair, change: Pair) -> Pair:
        """Change of `gradient` along `change`."""
        at_lanes, change_lanes = self._prepared(at), self._prepared(change)
        c = self._prepared_cotangent(cotangent, at)
        found = self._room_for_both(at_lanes)
        both = (_arguments(at_lanes), _arguments(change_lanes))
        self._run("product_curvature", at_lanes, *both, *map(pointer, (c, *found)))
        return _without_padding(found[0], at), _without_padding(found[1], at)

    def _prepared(self, at: Pair) -> Pair:
        """Features and weights as C reads them, after a check of all that it would read blindly."""
        features, weights = at
        n_nodes, channels = len(features), features.shape[-1]
        self._check(features, n_nodes, self._product.n_in, channels)
        self._check(weights, n_nodes, self._product.correlation, channels)
        return self._in_lanes(features), self._in_lanes(weights)

    def _prepared_cotangent(self, cotangent: Tensor, at: Pair) -> Tensor:
        self._check(cotangent, len(at[0]), self._product.n_out, at[0].shape[-1])
        return self._in_lanes(cotangent)

    def _in_lanes(self, tensor: Tensor) -> Tensor:
        return whole_vectors(tensor, self.lanes).contiguous()

    def _check(self, tensor: Tensor, *shape: int) -> None:
        if tensor.shape != shape or tensor.dtype != self._dtype or tensor.device.type != "cpu":
            raise ValueError(
                f"the product takes a {self._dtype} tensor of shape {list(shape)} on the CPU here, "
                f"got {tensor.dtype} and {list(tensor.shape)} on '{tensor.device}'"
            )

    def _room(self, at_lanes: Pair, n_components: int) -> Tensor:
        n_nodes, _, channels = at_lanes[0].shape
        return torch.empty(n_nodes, n_components, channels, dtype=self._dtype)

    def _room_for_both(self, at_lanes: Pair) -> Pair:
        n_in, n_powers = self._product.n_in, self._product.correlation
        return self._room(at_lanes, n_in), self._room(at_lanes, n_powers)

    def _run(self, name: str, at_lanes: Pair, *arguments: object) -> None:
        """Call a function with as many threads as torch may use, and the work is worth."""
        n_nodes, _, channels = at_lanes[0].shape
        work = n_nodes * channels * self._n_products
        n_threads = max(1, min(torch.get_num_threads(), work // WORK_OF_A_THREAD))
        self._functions[name](ctypes.byref(_Shape(n_nodes, channels)), *arguments, n_threads)


@functools.cache
def product_library(product: NodeProduct, dtype: torch.dtype) -> ProductLibrary:
    """The library of this product and precision, built on first use.

    Raises:
        BuildError: it cannot be built or loaded here.
    """
    return ProductLibrary(product, dtype)


def _arguments(at_lanes: Pair) -> object:
    return ctypes.byref(_Arguments(*(tensor.data_ptr() for tensor in at_lanes)))


def _without_padding(padded: Tensor, at: Pair) -> Tensor:
    channels = at[0].shape[-1]
    return padded if padded.shape[-1] == channels else padded[..., :channels].contiguous()
