"""One interaction: gather the neighbourhood, then take products at the node."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gfm_models.kernels.edge_operation import Edges, edge_operation
from gfm_models.kernels.from_vectors import (
    Surroundings,
    gradient_from_vectors,
    value_from_vectors,
)
from gfm_models.kernels.paths import natural_paths
from gfm_models.kernels.spline import RadialTable
from gfm_models.kernels.spline_operation import read_spline
from gfm_models.layers.adjoint import Adjoint, LastAdjoint
from gfm_models.layers.mixing import ChannelMixing, linear
from gfm_models.layers.radial import RadialWeights
from gfm_models.layers.sphere import SphereProduct


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
        correlation: int,
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
        self.product_weights = linear(element_channels, correlation * channels, dtype=dtype)
        self.product = SphereProduct(l_in=l_max, l_out=l_out, correlation=correlation, dtype=dtype)
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
        weights = read_spline(radial, lengths, backend=edges.backend)
        gathered = edge_operation(weights, harmonics, features, edges=edges, paths=self.paths)
        weights = self._product_weights(elements)
        mixed = self.mix_before(soft_bound(gathered / self.norm))
        return self.mix_after(self.product(mixed, weights, backend=edges.backend))

    def with_adjoint(
        self,
        features: Float[Tensor, "senders components channels"],
        *,
        elements: Float[Tensor, "receivers element_channels"],
        around: Surroundings,
        to_vectors: Float[Tensor, "edges 3"],
        wants_features: bool,
    ) -> tuple[Float[Tensor, "receivers components_out channels"], LastAdjoint]:
        """The same for inference, from edge vectors, and its adjoint.

        The adjoint adds the gradient by the edge vectors to `to_vectors`. It returns that by the
        features, or nothing where these do not depend on the structure.
        """
        edge = {"around": around, "table": self.radial.table(), "paths": self.paths}
        gathered = value_from_vectors(features, **edge)
        weights = self._product_weights(elements)
        bounded, of_bound = soft_bound_with_adjoint(gathered.div_(self.norm))
        mixed, of_mix_before = self.mix_before.with_adjoint(bounded)
        product, of_product = self.product.with_adjoint(mixed, weights)
        new, of_mix_after = self.mix_after.with_adjoint(product)

        def adjoint(cotangent: Tensor) -> Tensor | None:
            for of_layer in (of_mix_after, of_product, of_mix_before, of_bound):
                cotangent = of_layer(cotangent)
            return gradient_from_vectors(
                cotangent.div_(self.norm),
                features,
                **edge,
                to_vectors=to_vectors,
                wants_features=wants_features,
            )

        return new, adjoint

    def _product_weights(
        self, elements: Float[Tensor, "nodes element_channels"]
    ) -> Float[Tensor, "nodes powers channels"]:
        return self.product_weights(elements).unflatten(-1, (self.product.kind.correlation, -1))


def soft_bound(
    features: Float[Tensor, "nodes components channels"],
) -> Float[Tensor, "nodes components channels"]:
    """X / sqrt(1 + <x²>): equivariant, smooth, and never larger than one in the mean square."""
    return features * _bound(features)


def soft_bound_with_adjoint(
    features: Float[Tensor, "nodes components channels"],
) -> tuple[Float[Tensor, "nodes components channels"], Adjoint]:
    """The same, and its adjoint."""
    bound = _bound(features)
    bounded = features * bound

    def adjoint(cotangent: Tensor) -> Tensor:
        along = (bounded * cotangent).mean((1, 2), keepdim=True)
        return torch.addcmul(cotangent, bounded, along, value=-1).mul_(bound)

    return bounded, adjoint


def _bound(features: Tensor) -> Float[Tensor, "nodes 1 1"]:
    return torch.rsqrt(1 + features.square().mean((1, 2), keepdim=True))
