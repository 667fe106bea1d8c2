"""Products of node features, taken pointwise on the sphere."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gfm_models.harmonics import n_harmonics, sphere_quadrature, spherical_harmonics

CORRELATION = 3


class SphereProduct(nn.Module):
    """Per channel, a cubic polynomial without constant term of the function f on the sphere.

    Features of natural parity are coefficients of a function f(s) on the unit sphere. Its powers
    f, f², f³ are scalar, equivariant and see pairs, angles and dihedrals of the neighbourhood; they
    are taken on quadrature points fine enough that going back to harmonics is exact, so that the
    product is exactly O(3)-equivariant and not just nearly so.

        f(s) = Σ_lm u_lm Y_lm(s),   out_lm = <Y_lm(s) (w1 f + w2 f² + w3 f³)>_s

    symbol → variable: u → features, w1, w2, w3 → weights (they depend on the species).

    Source: the coupling by Gaunt integrals of Luo et al., arXiv:2401.10216.
    """

    def __init__(self, *, l_in: int, l_out: int, dtype: torch.dtype) -> None:
        super().__init__()
        points, weights = sphere_quadrature(CORRELATION * l_in + l_out)
        points = torch.from_numpy(points)
        y_in = spherical_harmonics(points, l_max=l_in) / n_harmonics(l_in) ** 0.5
        y_out = spherical_harmonics(points, l_max=l_out) * torch.from_numpy(weights)[:, None]
        self.register_buffer("to_sphere", y_in.to(dtype), persistent=False)
        self.register_buffer("from_sphere", y_out.T.contiguous().to(dtype), persistent=False)

    def forward(
        self,
        features: Float[Tensor, "nodes components channels"],
        weights: Float[Tensor, "3 nodes channels"],
    ) -> Float[Tensor, "nodes components_out channels"]:
        """Polynomial of each channel, degrees 0 to `l_out`."""
        f = torch.matmul(self.get_buffer("to_sphere"), features)
        w1, w2, w3 = weights[:, :, None, :]
        return torch.matmul(self.get_buffer("from_sphere"), f * (w1 + f * (w2 + f * w3)))
