"""The compiled splines of one precision."""

import ctypes
import functools

import torch
from torch import Tensor

from gfm_models.kernels.library import (
    REALS,
    WORK_OF_A_THREAD,
    check_tensor,
    load_library,
    pointer,
)
from gfm_models.kernels.spline import DEGREE

OTHER_POINTS = "`places` are those of other points"


class _Reading(ctypes.Structure):
    _fields_ = [
        ("n_points", ctypes.c_int64),
        ("n_intervals", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("places", ctypes.c_void_p),
    ]


class SplineLibrary:
    """The functions at the end of `spline.c`.

    Tensors are contiguous and on the CPU. Lengths and weights are float64, rows and cotangents have
    the precision of the library and a multiple of `lanes` columns.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._functions = load_library("spline", {}, defines={"REAL": REALS[dtype]})
        self.lanes: int = self._functions.spline_lanes()
        self._dtype = dtype

    def value(self, weights: Tensor, rows: Tensor, places: Tensor) -> Tensor:
        """Σ_j B[e, j] W[k_e + j]."""
        reading = self._reading(weights, rows.shape[1], places)
        check_tensor(rows, self._dtype, reading.n_intervals + DEGREE, reading.columns)
        value = rows.new_empty(reading.n_points, reading.columns)
        self._run("spline_value", reading, weights, rows, value)
        return value

    def to_weights(self, rows: Tensor, cotangent: Tensor, places: Tensor) -> Tensor:
        """Gradient of Σ cotangent · value by the weights."""
        weights = cotangent.new_empty(len(cotangent), DEGREE + 1, dtype=torch.float64)
        reading = self._reading(weights, rows.shape[1], places)
        check_tensor(rows, self._dtype, reading.n_intervals + DEGREE, reading.columns)
        check_tensor(cotangent, self._dtype, reading.n_points, reading.columns)
        self._run("spline_to_weights", reading, rows, cotangent, weights)
        return weights

    def to_rows(self, weights: Tensor, cotangent: Tensor, places: Tensor) -> Tensor:
        """Gradient of Σ cotangent · value by the rows."""
        reading = self._reading(weights, cotangent.shape[1], places)
        check_tensor(cotangent, self._dtype, reading.n_points, reading.columns)
        rows = cotangent.new_zeros(reading.n_intervals + DEGREE, reading.columns)
        self._run("spline_to_rows", reading, weights, cotangent, rows)
        return rows

    def _reading(self, weights: Tensor, columns: int, places: Tensor) -> _Reading:
        """Sizes as C takes them."""
        n_points = len(weights)
        n_intervals = intervals_in(places, n_points=n_points)
        if n_intervals < 1:
            raise ValueError(OTHER_POINTS)
        if weights.dtype != torch.float64 or weights.shape != (n_points, DEGREE + 1):
            raise ValueError(
                f"weights of splines must be float64 of shape [{n_points}, {DEGREE + 1}], got "
                f"{weights.dtype} and {list(weights.shape)}"
            )
        assert columns % self.lanes == 0
        return _Reading(n_points, n_intervals, columns, places.data_ptr())

    def _run(self, name: str, reading: _Reading, *tensors: Tensor) -> None:
        """Call a function with as many threads as torch may use, and the work is worth."""
        assert all(tensor.is_contiguous() for tensor in tensors)
        work = reading.n_points * reading.columns * (DEGREE + 1)
        n_threads = max(1, min(torch.get_num_threads(), work // WORK_OF_A_THREAD))
        if self._functions[name](ctypes.byref(reading), *map(pointer, tensors), n_threads):
            raise ValueError(OTHER_POINTS)


@functools.cache
def spline_library(dtype: torch.dtype) -> SplineLibrary:
    """The library of this precision, built on first use.

    Raises:
        BuildError: it cannot be built or loaded here.
    """
    return SplineLibrary(dtype)


def places_of(lengths: Tensor, *, n_intervals: int, scale: float) -> Tensor:
    """The interval of each point, and points by interval, in the layout of `spline_basis.c`."""
    places = lengths.new_empty(places_length(len(lengths), n_intervals), dtype=torch.int64)
    sizes = (*_sizes(lengths, n_intervals), ctypes.c_double(scale))
    basis_library().spline_places(*sizes, pointer(lengths), pointer(places))
    return places


def basis_of(lengths: Tensor, *, n_intervals: int, scale: float, derivative: int) -> Tensor:
    """The splines that are not zero at each length, or one of their derivatives by it."""
    weights = lengths.new_empty(len(lengths), DEGREE + 1)
    sizes = (*_sizes(lengths, n_intervals), ctypes.c_double(scale), derivative)
    basis_library().spline_basis(*sizes, pointer(lengths), pointer(weights))
    return weights


def places_length(n_points: int, n_intervals: int) -> int:
    """Length of what `places_of` returns."""
    return 2 * n_points + n_intervals + 1


def intervals_in(places: Tensor, *, n_points: int) -> int:
    """Number of intervals that places were found in."""
    return places.shape[0] - places_length(n_points, 0)


@functools.cache
def basis_library() -> ctypes.CDLL:
    """The functions in `spline_basis.c`, built on first use.

    Raises:
        BuildError: it cannot be built or loaded here.
    """
    return load_library("spline_basis", {}, defines={})


def _sizes(lengths: Tensor, n_intervals: int) -> tuple[ctypes.c_int64, ctypes.c_int64]:
    if lengths.dtype != torch.float64 or lengths.dim() != 1:
        raise ValueError(
            f"lengths must be float64 in one row, got {lengths.dtype} of shape "
            f"{list(lengths.shape)}"
        )
    assert lengths.is_contiguous()
    assert n_intervals > 0
    return ctypes.c_int64(len(lengths)), ctypes.c_int64(n_intervals)
