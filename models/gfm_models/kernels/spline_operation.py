"""Radial weights of every edge, read off a spline."""

from jaxtyping import Float
from torch import Tensor

from gfm_models.kernels.backend import Backend
from gfm_models.kernels.fused_spline import fused_spline
from gfm_models.kernels.library import whole_vectors
from gfm_models.kernels.spline import RadialTable
from gfm_models.kernels.spline_library import spline_library


def read_spline(
    table: RadialTable, lengths: Float[Tensor, " edges"], *, backend: Backend
) -> Float[Tensor, "edges paths channels"]:
    """R(lengths), differentiable by the coefficients and by the lengths.

    Args:
        table: Of any precision.
        lengths: In Å, float64.
        backend: "fused" is compiled, and fills the channels up as `whole_vectors` does; the others
            take a product of matrices.
    """
    if backend != "fused":
        return table(lengths)
    rows = whole_vectors(table.rows, spline_library(table.rows.dtype).lanes)
    return fused_spline(lengths, rows, table.scale)
