"""The compiled edge operation with tabulated radial weights."""

import ctypes
import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from gfm_models.kernels.generate import blocks_header
from gfm_models.kernels.library import PathLibrary, Shape, Triple, empty_like, pointer
from gfm_models.kernels.paths import Path
from gfm_models.kernels.spline import DEGREE


class _Table(ctypes.Structure):
    _fields_ = [
        ("rows", ctypes.c_void_p),
        ("n_intervals", ctypes.c_int64),
        ("scale", ctypes.c_double),
    ]


class TabulatedLibrary(PathLibrary):
    """The functions at the end of `tabulated.c`."""

    def __init__(self, paths: Sequence[Path], dtype: torch.dtype) -> None:
        blocks = {"tabulated_blocks.h": blocks_header(paths, tabulated=True)}
        super().__init__("tabulated", blocks, paths, dtype)

    def value(self, at: Triple, rows: Tensor, scale: float, order: Tensor) -> Tensor:
        """T(R(lengths), Y, h) of lengths, Y and h."""
        shape = self._checked(order, at, rows)
        value = self._empty_value(shape)
        self._run("tabulated_value", shape, _table(rows, scale), *map(pointer, (*at, value)))
        return value

    def gradient(
        self, cotangent: Tensor, at: Triple, rows: Tensor, scale: float, order: Tensor
    ) -> Triple:
        """Gradients of Σ cotangent · T by lengths, Y and h."""
        shape = self._checked(order, at, rows)
        self._check(cotangent, shape.n_receivers, self._n_out, shape.channels)
        gradient = empty_like(at)
        tensors = (*at, cotangent, *gradient)
        self._run("tabulated_gradient", shape, _table(rows, scale), *map(pointer, tensors))
        return gradient

    def _checked(self, order: Tensor, at: Triple, rows: Tensor) -> Shape:
        """The shape, after a check of all that C would read blindly."""
        lengths, harmonics, features = at
        shape = self._shape(order, harmonics, features)
        if lengths.dtype != torch.float64 or lengths.shape != (shape.n_edges,):
            raise ValueError(
                f"lengths must be float64 of shape [{shape.n_edges}], got {lengths.dtype} and "
                f"{list(lengths.shape)}"
            )
        self._check(harmonics, shape.n_edges, self._n_harmonics)
        self._check(features, shape.n_senders, self._n_in, shape.channels)
        self._check(rows, max(len(rows), DEGREE + 1), self._n_paths, shape.channels)
        return shape


@functools.cache
def tabulated_library(paths: tuple[Path, ...], dtype: torch.dtype) -> TabulatedLibrary:
    """As `edge_library`, with radial weights from a table."""
    return TabulatedLibrary(paths, dtype)


def _table(rows: Tensor, scale: float) -> object:
    return ctypes.byref(_Table(rows.data_ptr(), len(rows) - DEGREE, scale))
