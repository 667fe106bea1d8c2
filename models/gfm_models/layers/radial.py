"""Radial functions: a smooth cutoff envelope, a Bessel basis, and splines learned from it."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gfm_models.kernels.library import whole_vectors
from gfm_models.kernels.spline import RadialTable, interpolation, nodes
from gfm_models.kernels.spline_library import spline_library
from gfm_models.layers.mixing import SILU_GAIN, linear

ENVELOPE_EXPONENT = 6


def cutoff_envelope(
    distances: Float[Tensor, " edges"], cutoff: Float[Tensor, "..."] | float
) -> Float[Tensor, " edges"]:
    """Polynomial that falls from 1 to 0 with two continuous derivatives at the cutoff.

    u(x) = 1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2),  x = r / cutoff,  p = 6.

    Source: Gasteiger et al., arXiv:2003.03123, eq. 8.
    """
    p = ENVELOPE_EXPONENT
    x = (distances / cutoff).clamp(max=1.0)
    return 1 + x**p * (-(p + 1) * (p + 2) / 2 + x * (p * (p + 2) - x * p * (p + 1) / 2))


def bessel_functions(
    distances: Float[Tensor, " points"], *, n_radial: int, cutoff: float
) -> Float[Tensor, "points n_radial"]:
    """sqrt(2/c) sin(n π r / c) / r for n = 1 … n_radial, scaled to order one: times c.

    Source: Gasteiger et al., arXiv:2003.03123, eq. 7.
    """
    n = torch.arange(1, n_radial + 1, dtype=distances.dtype, device=distances.device)
    return math.sqrt(2 / cutoff) * math.pi * n * torch.sinc(n * distances[:, None] / cutoff)


class RadialWeights(nn.Module):
    """One weight per path and channel as a function of distance, R(r).

    It is the spline through MLP(bessel_functions(r)) at equally spaced distances. The spline is the
    model, in training as in inference; the network says what its coefficients are, and is evaluated
    once for each knot, not for each edge. It does not depend on the species. What makes it end
    smoothly at the cutoff, `cutoff_envelope`, is applied to the harmonics instead: they are fewer.
    """

    def __init__(
        self,
        *,
        n_radial: int,
        hidden: Sequence[int],
        n_paths: int,
        channels: int,
        cutoff: float,
        n_intervals: int,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        widths = [n_radial, *hidden]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [linear(n_in, n_out, dtype=dtype), nn.SiLU()]
        out = linear(widths[-1], n_paths * channels, bias=False, gain=SILU_GAIN, dtype=dtype)
        self.mlp = nn.Sequential(*layers, out)
        self.n_paths = n_paths
        self.channels = channels
        self.scale = n_intervals / cutoff
        distances = torch.tensor(nodes(n_intervals, cutoff=cutoff))
        basis = bessel_functions(distances, n_radial=n_radial, cutoff=cutoff).to(dtype)
        self.register_buffer("basis", basis, persistent=False)
        matrix = torch.tensor(interpolation(n_intervals)).to(dtype)
        self.register_buffer("interpolation", matrix, persistent=False)
        self._last: tuple[list[Tensor], RadialTable] | None = None

    def coefficients(self) -> RadialTable:
        """The spline, differentiable by the network's weights."""
        hidden = self.mlp[:-1](self.get_buffer("basis"))
        # The last layer is linear and without bias: interpolating what goes into it is less work.
        rows = self.mlp[-1](self.get_buffer("interpolation") @ hidden)
        return RadialTable(rows=rows.unflatten(1, (self.n_paths, self.channels)), scale=self.scale)

    def table(self) -> RadialTable:
        """The spline for compiled inference: without gradients, channels in whole vectors.

        It is made anew when weights have changed. They are compared with copies, for their versions
        do not tell what was written to their data.
        """
        weights = [weight.detach() for weight in self.mlp.parameters()]
        if self._last is None or not all(map(torch.equal, weights, self._last[0])):
            self._last = [weight.clone() for weight in weights], self._filled()
        return self._last[1]

    @torch.no_grad()
    def _filled(self) -> RadialTable:
        table = self.coefficients()
        rows = whole_vectors(table.rows, spline_library(table.rows.dtype).lanes)
        return RadialTable(rows=rows.contiguous(), scale=table.scale)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move to another device or precision, where the last spline is of no use."""
        self._last = None
        return super()._apply(fn, recurse)
