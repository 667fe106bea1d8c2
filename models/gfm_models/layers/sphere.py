"""Products of node features, taken pointwise on the sphere."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gfm_models.kernels.backend import Backend
from gfm_models.kernels.node_product import NodeProduct, all_points, polynomial
from gfm_models.kernels.product_library import product_gradient, product_value
from gfm_models.kernels.product_operations import node_product
from gfm_models.layers.adjoint import Adjoint


class SphereProduct(nn.Module):
    """Per channel, a polynomial without constant term of the function f on the sphere.

    Features of natural parity are coefficients of a function f(s) on the unit sphere. Its powers
    f, f², f³, … are scalar, equivariant and see pairs, angles and dihedrals of the neighbourhood;
    they are taken on quadrature points fine enough that going back to harmonics is exact.

        f(s) = Σ_lm u_lm Y_lm(s) / sqrt(number of u),   out_lm = <Y_lm(s) Σ_k w_k f(s)^k>_s

    symbol → variable: u → features, w → weights (they depend on the species), the
    largest k → correlation.

    Source: the coupling by Gaunt integrals of Luo et al., arXiv:2401.10216.
    """

    def __init__(self, *, l_in: int, l_out: int, correlation: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.kind = NodeProduct(l_in, l_out, correlation)
        to_sphere, from_sphere = all_points(self.kind, dtype)
        self.register_buffer("to_sphere", to_sphere, persistent=False)
        self.register_buffer("from_sphere", from_sphere, persistent=False)

    def forward(
        self,
        features: Float[Tensor, "nodes components channels"],
        weights: Float[Tensor, "nodes powers channels"],
        *,
        backend: Backend,
    ) -> Float[Tensor, "nodes components_out channels"]:
        """Polynomial of each channel, degrees 0 to `l_out`."""
        if backend == "fused":
            return node_product(features, weights, product=self.kind)
        f = torch.matmul(self.get_buffer("to_sphere"), features)
        return torch.matmul(self.get_buffer("from_sphere"), polynomial(f, weights))

    def with_adjoint(
        self,
        features: Float[Tensor, "nodes components channels"],
        weights: Float[Tensor, "nodes powers channels"],
    ) -> tuple[Float[Tensor, "nodes components_out channels"], Adjoint]:
        """The same for inference, and its adjoint by the features."""

        def adjoint(cotangent: Tensor) -> Tensor:
            return product_gradient(cotangent, features, weights, product=self.kind)[0]

        return product_value(features, weights, product=self.kind), adjoint
