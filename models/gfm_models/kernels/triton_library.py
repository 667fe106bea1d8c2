"""The edge operation of one path list and precision in Triton, for accelerators.

With TRITON_INTERPRET=1 in the environment before the first import, Triton interprets the same
functions on tensors on the CPU: slow, and good for tests.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gfm_models.kernels.generate import path_sizes
from gfm_models.kernels.library import (
    OTHER_GRAPH,
    Triple,
    check_tensor,
    empty_like,
    receivers_in,
)
from gfm_models.kernels.paths import Path
from gfm_models.kernels.triton_module import import_source, on_device
from gfm_models.kernels.triton_source import triton_source

FEWEST_CHANNELS = 16
MOST_CHANNELS = {torch.float32: 64, torch.float64: 32}
"""Of a program, powers of two: few enough for one warp to hold its sums in registers. For degrees
up to 2 no function spills any, compiled for sm_80; up to 3 the curvature alone does."""

OPTIONS = {"num_warps": 1, "enable_fp_fusion": True}
"""With one warp in a program, sums over channels need no shared memory."""


class _Order(NamedTuple):
    """The parts of what `order_edges` returns."""

    senders: Tensor
    receivers: Tensor
    by_sender: Tensor
    first_in: Tensor
    first_out: Tensor


class TritonLibrary:
    """The functions of `triton_source`, called as those of `EdgeLibrary`.

    Tensors are contiguous and on one device; channels may be any number.
    """

    lanes = 1
    """Channels are not padded."""

    def __init__(self, paths: Sequence[Path], dtype: torch.dtype) -> None:
        self._functions = import_source("edge_operation", triton_source(paths))
        self._dtype = dtype
        sizes = path_sizes(paths)
        self._n_paths, self._n_in = sizes["N_PATHS"], sizes["N_IN"]
        self._n_harmonics, self._n_out = sizes["N_HARMONICS"], sizes["N_OUT"]

    def value(self, at: Triple, order: Tensor) -> Tensor:
        """T(R, Y, h)."""
        return self._of_receivers("edge_value", order, at)

    def tangent(self, at: Triple, change: Triple, order: Tensor) -> Tensor:
        """Change of T along `change`."""
        return self._of_receivers("edge_tangent", order, at, change)

    def gradient(self, cotangent: Tensor, at: Triple, order: Tensor) -> Triple:
        """Gradients of Σ cotangent · T by R, Y and h."""
        return self._of_senders("edge_gradient", order, cotangent, at)

    def curvature(self, cotangent: Tensor, at: Triple, change: Triple, order: Tensor) -> Triple:
        """Change of `gradient` along `change`."""
        return self._of_senders("edge_curvature", order, cotangent, at, change)

    def _of_receivers(self, name: str, order: Tensor, *triples: Triple) -> Tensor:
        parts = self._checked(order, *triples)
        n_receivers, channels = len(parts.first_in) - 1, triples[0][2].shape[-1]
        value = triples[0][2].new_empty(n_receivers, self._n_out, channels)
        tensors = (*_flat(triples), value, parts.senders, parts.first_in)
        self._run(name, n_receivers, channels, *tensors)
        return value

    def _of_senders(self, name: str, order: Tensor, cotangent: Tensor, *triples: Triple) -> Triple:
        parts = self._checked(order, *triples)
        n_receivers, n_edges, channels = (
            len(parts.first_in) - 1,
            len(parts.senders),
            triples[0][2].shape[-1],
        )
        check_tensor(cotangent, self._dtype, n_receivers, self._n_out, channels)
        to_radial, to_harmonics, to_features = empty_like(triples[0])
        n_blocks = -(-channels // block_size(channels, self._dtype))
        of_blocks = to_harmonics.new_empty(n_blocks, *to_harmonics.shape)
        tensors = (cotangent, *_flat(triples), to_radial, of_blocks, to_features)
        orders = (parts.receivers, parts.by_sender, parts.first_out, n_edges)
        self._run(name, len(parts.first_out) - 1, channels, *tensors, *orders)
        return to_radial, of_blocks[0] if n_blocks == 1 else of_blocks.sum(0), to_features

    def _run(self, name: str, n_nodes: int, channels: int, *arguments: Any) -> None:
        """Start a function for every node and block of channels."""
        if n_nodes == 0 or channels == 0:
            return
        block = block_size(channels, self._dtype)
        grid = (n_nodes, -(-channels // block))
        with on_device(arguments[0].device):
            function: Any = getattr(self._functions, name)
            function[grid](*arguments, channels, BLOCK=block, **OPTIONS)

    def _checked(self, order: Tensor, *triples: Triple) -> _Order:
        """The order of the edges, after a check of all that would be read blindly."""
        features = triples[0][2]
        n_senders, n_edges, channels = len(features), len(triples[0][1]), features.shape[-1]
        n_receivers = receivers_in(order, n_senders=n_senders, n_edges=n_edges)
        if n_receivers < 0:
            raise ValueError(OTHER_GRAPH)
        for radial, harmonics, of_senders in triples:
            check_tensor(radial, self._dtype, n_edges, self._n_paths, channels)
            check_tensor(harmonics, self._dtype, n_edges, self._n_harmonics)
            check_tensor(of_senders, self._dtype, n_senders, self._n_in, channels)
        return _Order(*order[2:].split([n_edges] * 3 + [n_receivers + 1, n_senders + 1]))


@functools.cache
def triton_library(paths: tuple[Path, ...], dtype: torch.dtype) -> TritonLibrary:
    """The library of this path list and precision; functions are compiled when first called.

    Raises:
        ImportError: Triton is not installed.
    """
    return TritonLibrary(paths, dtype)


def block_size(channels: int, dtype: torch.dtype) -> int:
    """Channels of a program, a power of two."""
    return min(max(FEWEST_CHANNELS, 1 << (channels - 1).bit_length()), MOST_CHANNELS[dtype])


def _flat(triples: Sequence[Triple]) -> Iterator[Tensor]:
    return (tensor for triple in triples for tensor in triple)
