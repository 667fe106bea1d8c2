"""Radial functions: a smooth cutoff envelope, a Bessel basis, and weights learned from it."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

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


class BesselBasis(nn.Module):
    """sqrt(2/c) sin(n π r / c) / r for n = 1 … n_radial, scaled to order one.

    Source: Gasteiger et al., arXiv:2003.03123, eq. 7.
    """

    def __init__(self, *, n_radial: int, cutoff: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.cutoff = cutoff
        frequencies = math.pi / cutoff * torch.arange(1, n_radial + 1, dtype=dtype)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, distances: Float[Tensor, " edges"]) -> Float[Tensor, "edges n_radial"]:
        """Basis functions at `distances` (Å)."""
        r = distances[:, None]
        return math.sqrt(2 * self.cutoff) * torch.sin(self.get_buffer("frequencies") * r) / r


class RadialWeights(nn.Module):
    """One weight per path and channel as a function of distance, R(r) = MLP(basis(r)).

    It does not depend on the species, so that it can be tabulated for inference. What makes it end
    smoothly at the cutoff, `cutoff_envelope`, is applied to the harmonics instead: they are fewer.
    """

    def __init__(
        self,
        *,
        n_radial: int,
        hidden: Sequence[int],
        n_paths: int,
        channels: int,
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
        self.compute_dtype = dtype

    def forward(
        self, basis: Float[Tensor, "edges n_radial"]
    ) -> Float[Tensor, "edges paths channels"]:
        """Weights of every path and channel on every edge."""
        rounds = self.compute_dtype != basis.dtype
        with torch.autocast(basis.device.type, self.compute_dtype, enabled=rounds):
            values = self.mlp(basis)
        return values.to(basis.dtype).unflatten(-1, (self.n_paths, self.channels))
