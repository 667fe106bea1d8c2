"""One interaction: gather the neighbourhood, then take products at the node."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gfm_models.kernels.edge_operation import Edges, edge_operation, tabulated_edge_operation
from gfm_models.kernels.library import whole_vectors
from gfm_models.kernels.paths import natural_paths
from gfm_models.kernels.spline import RadialTable, tabulate
from gfm_models.kernels.tabulated_library import tabulated_library
from gfm_models.layers.mixing import ChannelMixing, linear
from gfm_models.layers.radial import BesselBasis, RadialWeights
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
        self.table: RadialTable | None = None
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
        lengths: Float[Tensor, " edges"],
        basis: Float[Tensor, "edges n_radial"],
        harmonics: Float[Tensor, "edges harmonics"],
        edges: Edges,
    ) -> Float[Tensor, "receivers components_out channels"]:
        """New features of every receiver, from its neighbours' `features`.

        `harmonics` are to vanish with two derivatives at the cutoff. Radial weights are made of
        `basis`, or where there is a table, of `lengths` in Å, float64. Edges count senders and
        receivers each by themselves; mostly they are the same.
        """
        shared = {"edges": edges, "paths": self.paths}
        if self.table is not None:
            gathered = tabulated_edge_operation(
                lengths, harmonics, features, table=self.table, **shared
            )
        else:
            gathered = edge_operation(self.radial(basis), harmonics, features, **shared)
        weights = self.product_weights(elements).unflatten(-1, (CORRELATION, -1))
        mixed = self.mix_before(soft_bound(gathered / self.norm))
        return self.mix_after(self.product(mixed, weights, backend=edges.backend))

    def tabulate(self, basis: BesselBasis) -> None:
        """Read radial weights off a table from now on; see `Backbone.tabulate`.

        Args:
            basis: In float64, which the table is made in.
        """
        radial = copy.deepcopy(self.radial).double()
        radial.compute_dtype = torch.float64
        dtype = self.mix_before.weight.dtype
        with torch.no_grad():
            table = tabulate(lambda r: radial(basis(r)), cutoff=basis.cutoff)
        lanes = tabulated_library(self.paths, dtype).lanes
        self.table = RadialTable(
            rows=whole_vectors(table.rows.to(dtype), lanes).contiguous(), scale=table.scale
        )


def soft_bound(
    features: Float[Tensor, "nodes components channels"],
) -> Float[Tensor, "nodes components channels"]:
    """X / sqrt(1 + <x²>): equivariant, smooth, and never larger than one in the mean square."""
    return features * torch.rsqrt(1 + features.square().mean((1, 2), keepdim=True))
