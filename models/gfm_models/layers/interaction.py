"""One interaction: gather the neighbourhood, then take products at the node."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gfm_models.kernels.edge_operation import Edges, edge_operation, tabulated_edge_operation
from gfm_models.kernels.paths import natural_paths
from gfm_models.kernels.spline import RadialTable
from gfm_models.kernels.spline_operation import read_spline
from gfm_models.layers.mixing import ChannelMixing, linear
from gfm_models.layers.radial import RadialWeights
from gfm_models.layers.sphere import CORRELATION, SphereProduct


class Interaction(nn.Module):
    """A = T(R, Y, h) / sqrt(n̄);   h' = mix(product(mix(A / sqrt(1 + <A²>)))).

    Every term carries at least one neighbour: an isolated atom gets zero features. The division
    by the mean square of A over components and channels bounds the features, so that no crowd of
    atoms, however dense, makes the learned energy outgrow the short-range repulsion.
    """

    def __init__(
        self,
        *,
        l_in: int,
        l_max: int,
        l_out: int,
        channels: int,
        element_channels: int,
        n_radial: int,
        radial_hidden: tuple[int, ...],
        radial_intervals: int,
        cutoff: float,
        mean_neighbors: float,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.paths = natural_paths(l_in=l_in, l_edge=l_max, l_out=l_max)
        self.radial = RadialWeights(
            n_radial=n_radial,
            hidden=radial_hidden,
            n_paths=len(self.paths),
            channels=channels,
            cutoff=cutoff,
            n_intervals=radial_intervals,
            dtype=dtype,
        )
        self.norm = mean_neighbors**0.5
        self.mix_before = ChannelMixing(l_max=l_max, channels=channels, dtype=dtype)
        self.product_weights = linear(element_channels, CORRELATION * channels, dtype=dtype)
        self.product = SphereProduct(l_in=l_max, l_out=l_out, dtype=dtype)
        self.mix_after = ChannelMixing(l_max=l_out, channels=channels, dtype=dtype)

    def forward(
        self,
        features: Float[Tensor, "senders components channels"],
        *,
        radial: RadialTable,
        elements: Float[Tensor, "receivers element_channels"],
        lengths: Float[Tensor, " edges"],
        harmonics: Float[Tensor, "edges harmonics"],
        edges: Edges,
    ) -> Float[Tensor, "receivers components_out channels"]:
        """New features of every receiver, from its neighbours' `features`.

        `radial` is what `self.radial` gives, `lengths` are in Å, float64, and `harmonics` are to
        vanish with two derivatives at the cutoff. Edges count senders and receivers each by
        themselves; mostly they are the same.
        """
        gathered = self._gather(radial, lengths, harmonics, features, edges)
        weights = self.product_weights(elements).unflatten(-1, (CORRELATION, -1))
        mixed = self.mix_before(soft_bound(gathered / self.norm))
        return self.mix_after(self.product(mixed, weights, backend=edges.backend))

    def _gather(
        self,
        radial: RadialTable,
        lengths: Float[Tensor, " edges"],
        harmonics: Float[Tensor, "edges harmonics"],
        features: Float[Tensor, "senders components channels"],
        edges: Edges,
    ) -> Float[Tensor, "receivers components channels"]:
        """T(R, Y, h); radial weights that nobody trains are never written down."""
        shared = {"edges": edges, "paths": self.paths}
        if edges.backend == "fused" and not radial.rows.requires_grad:
            return tabulated_edge_operation(lengths, harmonics, features, table=radial, **shared)
        weights = read_spline(radial, lengths, backend=edges.backend)
        return edge_operation(weights, harmonics, features, **shared)


def soft_bound(
    features: Float[Tensor, "nodes components channels"],
) -> Float[Tensor, "nodes components channels"]:
    """X / sqrt(1 + <x²>): equivariant, smooth, and never larger than one in the mean square."""
    return features * torch.rsqrt(1 + features.square().mean((1, 2), keepdim=True))
