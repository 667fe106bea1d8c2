"""One interaction: gather the neighbourhood, then take products at the node."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gfm_models.kernels.edge_operation import edge_operation
from gfm_models.kernels.paths import natural_paths
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
        elements: Float[Tensor, "receivers element_channels"],
        basis: Float[Tensor, "edges n_radial"],
        envelope: Float[Tensor, " edges"],
        harmonics: Float[Tensor, "edges harmonics"],
        edge_index: Int[Tensor, "2 edges"],
    ) -> Float[Tensor, "receivers components_out channels"]:
        """New features of every receiver, from its neighbours' `features`.

        `edge_index` counts senders and receivers each by themselves; mostly they are the same.
        """
        gathered = edge_operation(
            self.radial(basis, envelope),
            harmonics,
            features,
            edge_index=edge_index,
            paths=self.paths,
            n_receivers=len(elements),
        )
        weights = self.product_weights(elements).unflatten(-1, (CORRELATION, -1)).movedim(1, 0)
        bounded = soft_bound(gathered / self.norm)
        return self.mix_after(self.product(self.mix_before(bounded), weights))


def soft_bound(
    features: Float[Tensor, "nodes components channels"],
) -> Float[Tensor, "nodes components channels"]:
    """X / sqrt(1 + <x²>): equivariant, smooth, and never larger than one in the mean square."""
    return features * torch.rsqrt(1 + features.square().mean((1, 2), keepdim=True))
