"""Sums and derivatives of the energy, against finite differences."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gfm_models.derivatives import predict, stress
from gfm_models.potential import MultiHeadPotential
from gfm_models.testing.comparison import (
    assert_close,
    energy_of,
    predict_structure,
    slope_at_zero,
    tolerance_of,
)
from gfm_models.testing.structures import Structure, crystal, molecule


def check_energy_sum(potential: MultiHeadPotential, head: str) -> None:
    """The energy is the sum of the atoms' energies; forces add up to zero."""
    for structure in (molecule(potential, head), crystal(potential, head)):
        prediction = predict_structure(potential, head, structure)
        tolerance = tolerance_of(potential).same
        assert_close("energy", prediction.energy[0], prediction.atomic_energies.sum(), 1e-12)
        assert_close("net force", prediction.forces.sum(0), torch.zeros(3), tolerance)


def check_forces(potential: MultiHeadPotential, head: str) -> None:
    """Forces are minus the finite differences of the energy."""
    tolerance = tolerance_of(potential)
    for structure in (molecule(potential, head, n_atoms=5), crystal(potential, head)):
        forces = predict_structure(potential, head, structure).forces

        def energy(index: int, step: float, structure: Structure = structure) -> float:
            positions = structure.positions.copy()
            positions.flat[index] += step
            return energy_of(potential, head, structure.moved(positions))

        slopes = [
            slope_at_zero(lambda h, i=i: energy(i, h), tolerance.step)
            for i in range(structure.positions.size)
        ]
        expected = -torch.tensor(slopes, dtype=torch.float64).view(-1, 3)
        assert_close("forces", forces, expected, tolerance.difference)


def check_stress(potential: MultiHeadPotential, head: str) -> None:
    """Stress is the finite difference of the energy by strain over the true volume."""
    tolerance = tolerance_of(potential)
    structure = crystal(potential, head)
    graph = structure.graph(potential.cutoff)
    volume = abs(np.linalg.det(structure.cell))
    slopes = np.empty((3, 3))
    for i, j in np.ndindex(3, 3):

        def energy(size: float, i: int = i, j: int = j) -> float:
            strain = np.eye(3)
            strain[i, j] += size / 2
            strain[j, i] += size / 2
            strained = structure.moved(structure.positions @ strain, structure.cell @ strain)
            return energy_of(potential, head, strained)

        slopes[i, j] = slope_at_zero(energy, tolerance.step) / volume
    found = stress(predict(potential, graph, head).virial, graph)[0]
    assert_close("stress", found, torch.from_numpy(slopes), tolerance.difference)


def check_double_backward(potential: MultiHeadPotential, head: str) -> None:
    """The gradient of a loss on forces and virial by the weights is its finite difference.

    The direction of the difference is the gradient and a random one of the same length: along the
    gradient alone, weights that get no gradient would not be noticed.
    """
    tolerance = tolerance_of(potential)
    graph = crystal(potential, head).graph(potential.cutoff)
    parameters = [
        *potential.backbone.parameters(),
        *potential.head(head).parameters(),
    ]
    generator = torch.Generator().manual_seed(0)
    for_forces = torch.randn(graph.n_nodes, 3, generator=generator)
    for_virial = torch.randn(3, 3, generator=generator)

    def loss(*, create_graph: bool) -> Tensor:
        p = predict(potential, graph, head, create_graph=create_graph)
        return (p.forces * for_forces).sum() + (p.virial * for_virial).sum() + p.energy.sum()

    gradients = torch.autograd.grad(loss(create_graph=True), parameters, allow_unused=True)
    found = [
        torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)
    ]
    random = [torch.randn(p.shape, generator=generator).to(p) for p in parameters]
    direction = [g / _norm(found) + r / _norm(random) for g, r in zip(found, random, strict=True)]
    expected = sum((g * d).sum().item() for g, d in zip(found, direction, strict=True))
    start = [p.detach().clone() for p in parameters]

    def along_direction(step: float) -> float:
        with torch.no_grad():
            for p, p0, d in zip(parameters, start, direction, strict=True):
                p.copy_(p0 + step * d)
        return loss(create_graph=False).item()

    try:
        slope = slope_at_zero(along_direction, tolerance.step)
    finally:
        with torch.no_grad():
            for p, p0 in zip(parameters, start, strict=True):
                p.copy_(p0)
    assert_close(
        "parameter gradient", torch.tensor(expected), torch.tensor(slope), tolerance.difference
    )


def _norm(tensors: Sequence[Tensor]) -> float:
    return torch.stack([t.double().square().sum() for t in tensors]).sum().sqrt().item()
