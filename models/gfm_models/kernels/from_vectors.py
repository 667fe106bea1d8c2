"""The edge operation straight from edge vectors, for inference: compiled, without autograd.

A[i] = Σ_{edges into i} Σ_paths C R(|d|) u(|d|) Y(d / |d|) h[sender]: d are the edge vectors, u is
the cutoff envelope and R a spline. Lengths, directions and harmonics are computed inside, in
float64. Training and Hessians take `edge_operation` instead, which can be differentiated again.
"""

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gfm_models.kernels.generate import from_vectors_header
from gfm_models.kernels.library import PathLibrary, Shape, pointer, whole_vectors
from gfm_models.kernels.paths import Path
from gfm_models.kernels.spline import DEGREE, RadialTable


class _Radial(ctypes.Structure):
    _fields_ = [
        ("rows", ctypes.c_void_p),
        ("n_intervals", ctypes.c_int64),
        ("scale", ctypes.c_double),
        ("cutoff", ctypes.c_double),
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class Surroundings:
    """Where every neighbour is: what all interactions of a structure share."""

    order: Int[Tensor, " order"]
    """The edges by receiver and by sender, from `order_edges`."""

    vectors: Float[Tensor, "edges 3"]
    """From sender to receiver in Å, float64."""

    cutoff: float
    """Å."""


def value_from_vectors(
    features: Float[Tensor, "senders components channels"],
    *,
    around: Surroundings,
    table: RadialTable,
    paths: tuple[Path, ...],
) -> Float[Tensor, "receivers components_out channels"]:
    """A. Channels of `features` and of the table are padded by `whole_vectors` where they must."""
    library = from_vectors_library(paths, features.dtype)
    value = library.value(whole_vectors(features, library.lanes).contiguous(), around, table)
    return value[..., : features.shape[-1]]


def gradient_from_vectors(
    cotangent: Float[Tensor, "receivers components_out channels"],
    features: Float[Tensor, "senders components channels"],
    *,
    around: Surroundings,
    table: RadialTable,
    paths: tuple[Path, ...],
    to_vectors: Float[Tensor, "edges 3"],
    wants_features: bool,
) -> Float[Tensor, "senders components channels"] | None:
    """Gradient of Σ cotangent · A: that by the vectors is added to `to_vectors`, float64.

    Returns:
        That by the features, if it is wanted.
    """
    library = from_vectors_library(paths, features.dtype)
    g, h = (whole_vectors(x, library.lanes).contiguous() for x in (cotangent, features))
    to_features = library.gradient(g, h, around, table, to_vectors, wants_features=wants_features)
    return None if to_features is None else to_features[..., : features.shape[-1]]


class FromVectorsLibrary(PathLibrary):
    """The functions at the end of `from_vectors.c`."""

    def __init__(self, paths: Sequence[Path], dtype: torch.dtype) -> None:
        blocks = {"from_vectors_blocks.h": from_vectors_header(paths)}
        super().__init__("from_vectors", blocks, paths, dtype)

    def value(self, features: Tensor, around: Surroundings, table: RadialTable) -> Tensor:
        """A."""
        shape = self._checked(features, around, table)
        value = self._empty_value(shape)
        at = (pointer(around.vectors), pointer(features))
        self._run("value_from_vectors", shape, _radial(table, around), *at, pointer(value))
        return value

    def gradient(
        self,
        cotangent: Tensor,
        features: Tensor,
        around: Surroundings,
        table: RadialTable,
        to_vectors: Tensor,
        *,
        wants_features: bool,
    ) -> Tensor | None:
        """Add to `to_vectors`; return the gradient by the features, if it is wanted."""
        shape = self._checked(features, around, table)
        self._check(cotangent, shape.n_receivers, self._n_out, shape.channels)
        _check_vectors(to_vectors, shape.n_edges)
        to_features = torch.empty_like(features) if wants_features else None
        tensors = (around.vectors, features, cotangent, to_vectors)
        into = None if to_features is None else pointer(to_features)
        radial = _radial(table, around)
        self._run("gradient_from_vectors", shape, radial, *map(pointer, tensors), into)
        return to_features

    def _checked(self, features: Tensor, around: Surroundings, table: RadialTable) -> Shape:
        """The shape, after a check of all that C would read blindly."""
        shape = self._shape(around.order, around.vectors, features)
        _check_vectors(around.vectors, shape.n_edges)
        self._check(features, shape.n_senders, self._n_in, shape.channels)
        self._check(table.rows, max(len(table.rows), DEGREE + 1), self._n_paths, shape.channels)
        return shape


@functools.cache
def from_vectors_library(paths: tuple[Path, ...], dtype: torch.dtype) -> FromVectorsLibrary:
    """The library of this path list and precision, built on first use.

    Raises:
        BuildError: it cannot be built or loaded here.
    """
    return FromVectorsLibrary(paths, dtype)


def _radial(table: RadialTable, around: Surroundings) -> object:
    n_intervals = len(table.rows) - DEGREE
    return ctypes.byref(_Radial(table.rows.data_ptr(), n_intervals, table.scale, around.cutoff))


def _check_vectors(vectors: Tensor, n_edges: int) -> None:
    if vectors.dtype != torch.float64 or vectors.shape != (n_edges, 3):
        raise ValueError(
            f"edge vectors must be float64 of shape [{n_edges}, 3], got {vectors.dtype} and "
            f"{list(vectors.shape)}"
        )
    assert vectors.is_contiguous()
