"""What two ways to one number give, and how closely they must agree."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gfm_models.derivatives import Prediction, predict, predict_energy
from gfm_models.potential import MultiHeadPotential
from gfm_models.testing.structures import Structure


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How closely two ways to one number must agree, relative to its size (or to one)."""

    same: float
    """Two evaluations that are equal in exact arithmetic."""

    difference: float
    """A derivative and a finite difference."""

    step: float
    """Å (or strain); step of finite differences."""


TOLERANCES = {
    torch.float64: Tolerance(same=1e-10, difference=1e-6, step=1e-3),
    torch.float32: Tolerance(same=2e-4, difference=2e-2, step=1e-2),
}


def tolerance_of(potential: MultiHeadPotential) -> Tolerance:
    """That of the potential's precision."""
    return TOLERANCES[potential.backbone.dtype]


def predict_structure(potential: MultiHeadPotential, head: str, structure: Structure) -> Prediction:
    """All that is predicted."""
    return predict(potential, structure.graph(potential.cutoff), head)


def energy_of(potential: MultiHeadPotential, head: str, structure: Structure) -> float:
    """Total energy in eV alone, as where no gradient is wanted."""
    with torch.no_grad():
        return predict_energy(potential, structure.graph(potential.cutoff), head).item()


def slope_at_zero(function: Callable[[float], float], step: float) -> float:
    """Derivative at zero by a central difference of fourth order."""
    near = function(step) - function(-step)
    far = function(2 * step) - function(-2 * step)
    return (8 * near - far) / (12 * step)


def assert_same(after: Prediction, before: Prediction, tolerance: float) -> None:
    """Energy, forces and virial are those of before."""
    assert_close("energy", after.energy, before.energy, tolerance)
    assert_close("forces", after.forces, before.forces, tolerance)
    assert_close("virial", after.virial, before.virial, tolerance)


def assert_close(
    what: str, found: Float[Tensor, "..."], expected: Float[Tensor, "..."], tolerance: float
) -> None:
    """No component differs by more than `tolerance` of the largest, or of one."""
    error = (found.double() - expected.double()).abs().max().item()
    scale = max(1.0, expected.abs().max().item())
    assert error <= tolerance * scale, (
        f"{what} differs by {error:.3e}, {error / scale:.1e} relative; allowed {tolerance:.0e}"
    )
