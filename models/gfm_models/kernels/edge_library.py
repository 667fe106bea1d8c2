"""The compiled edge operation of one path list and precision."""

import ctypes
import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from gfm_models.kernels.generate import blocks_header
from gfm_models.kernels.library import PathLibrary, Shape, Triple, empty_like, pointer
from gfm_models.kernels.paths import Path


class _Arguments(ctypes.Structure):
    _fields_ = [
        ("radial", ctypes.c_void_p),
        ("harmonics", ctypes.c_void_p),
        ("features", ctypes.c_void_p),
    ]


class EdgeLibrary(PathLibrary):
    """The functions at the end of `edge_operation.c`."""

    def __init__(self, paths: Sequence[Path], dtype: torch.dtype) -> None:
        super().__init__("edge_operation", {"blocks.h": blocks_header(paths)}, paths, dtype)

    def value(self, at: Triple, order: Tensor) -> Tensor:
        """T(R, Y, h)."""
        shape = self._checked(order, at)
        value = self._empty_value(shape)
        self._run("edge_value", shape, _arguments(at), pointer(value))
        return value

    def tangent(self, at: Triple, change: Triple, order: Tensor) -> Tensor:
        """Change of T along `change`."""
        shape = self._checked(order, at, change)
        value = self._empty_value(shape)
        self._run("edge_tangent", shape, _arguments(at), _arguments(change), pointer(value))
        return value

    def gradient(self, cotangent: Tensor, at: Triple, order: Tensor) -> Triple:
        """Gradients of Σ cotangent · T by R, Y and h."""
        shape = self._checked(order, at, cotangent=cotangent)
        gradient = empty_like(at)
        self._run("edge_gradient", shape, _arguments(at), *map(pointer, (cotangent, *gradient)))
        return gradient

    def curvature(self, cotangent: Tensor, at: Triple, change: Triple, order: Tensor) -> Triple:
        """Change of `gradient` along `change`."""
        shape = self._checked(order, at, change, cotangent=cotangent)
        gradient = empty_like(at)
        both = (_arguments(at), _arguments(change))
        self._run("edge_curvature", shape, *both, *map(pointer, (cotangent, *gradient)))
        return gradient

    def _checked(self, order: Tensor, *triples: Triple, cotangent: Tensor | None = None) -> Shape:
        """The shape, after a check of all that C would read blindly."""
        shape = self._shape(order, *triples[0][1:])
        for radial, harmonics, features in triples:
            self._check(radial, shape.n_edges, self._n_paths, shape.channels)
            self._check(harmonics, shape.n_edges, self._n_harmonics)
            self._check(features, shape.n_senders, self._n_in, shape.channels)
        if cotangent is not None:
            self._check(cotangent, shape.n_receivers, self._n_out, shape.channels)
        return shape


@functools.cache
def edge_library(paths: tuple[Path, ...], dtype: torch.dtype) -> EdgeLibrary:
    """The library of this path list and precision, built on first use.

    Raises:
        BuildError: it cannot be built or loaded here.
    """
    return EdgeLibrary(paths, dtype)


def _arguments(at: Triple) -> object:
    return ctypes.byref(_Arguments(*(tensor.data_ptr() for tensor in at)))
