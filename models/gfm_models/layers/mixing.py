"""Linear maps that keep the variance at the start, plain and degree by degree."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gfm_models.harmonics import split_degrees
from gfm_models.layers.adjoint import Adjoint

SILU_GAIN = 1.68
"""Inverse root mean square of SiLU of a standard normal variable."""


def linear(
    n_in: int, n_out: int, *, bias: bool = True, gain: float = 1.0, dtype: torch.dtype
) -> nn.Linear:
    """A linear layer whose outputs have variance `gain`² for inputs of variance one."""
    layer = nn.Linear(n_in, n_out, bias=bias, dtype=dtype)
    nn.init.normal_(layer.weight, std=gain / n_in**0.5)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class ChannelMixing(nn.Module):
    """One matrix per degree, without bias: the components of a degree stay together."""

    def __init__(self, *, l_max: int, channels: int, dtype: torch.dtype) -> None:
        super().__init__()
        weight = torch.randn(l_max + 1, channels, channels, dtype=dtype) / channels**0.5
        self.weight = nn.Parameter(weight)

    def forward(
        self, features: Float[Tensor, "nodes components channels"]
    ) -> Float[Tensor, "nodes components channels"]:
        """Mix the channels of every degree."""
        by_degree = split_degrees(features)
        return torch.cat([f @ w for f, w in zip(by_degree, self.weight, strict=True)], dim=1)

    def with_adjoint(
        self, features: Float[Tensor, "nodes components channels"]
    ) -> tuple[Float[Tensor, "nodes components channels"], Adjoint]:
        """The same, and its adjoint: mixing with transposed matrices."""
        degrees = [degree for degree in range(len(self.weight)) for _ in range(2 * degree + 1)]
        weight = self.weight[degrees]
        return _mix(features, weight), lambda cotangent: _mix(cotangent, weight.mT)


def _mix(features: Tensor, weight: Float[Tensor, "components channels channels"]) -> Tensor:
    """One product of matrices for each component, without a copy of the features."""
    mixed = torch.empty_like(features, memory_format=torch.contiguous_format)
    torch.bmm(features.transpose(0, 1), weight, out=mixed.transpose(0, 1))
    return mixed
