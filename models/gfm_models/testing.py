"""The contract of a potential: the physics that every backbone, kernel and wrapper must pass.

Use it on your own potential, in float64 and float32:

    for name, check in gfm_models.testing.CHECKS.items():
        check(potential, "my-head")

Each check raises AssertionError with the numbers that disagree. The potential must know at least
one element; structures are made of the elements its head knows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase.data import atomic_numbers as number_of
from ase.data import covalent_radii
from jaxtyping import Float
from torch import Tensor

from gfm_models.derivatives import Prediction, predict, predict_energy, stress
from gfm_models.graph import AtomicGraph, batch_graphs, build_graph
from gfm_models.potential import MultiHeadPotential

FAR = 30.0
"""Å; farther than anything interacts."""


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """Plain arrays of a structure, to be moved about before a graph is made of it."""

    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray

    def graph(self, cutoff: float) -> AtomicGraph:
        """Graph with edges up to `cutoff` Å."""
        return build_graph(
            self.numbers, self.positions, cell=self.cell, pbc=self.pbc, cutoff=cutoff
        )

    def moved(self, positions: np.ndarray, cell: np.ndarray | None = None) -> "Structure":
        """The same atoms elsewhere."""
        return Structure(
            numbers=self.numbers,
            positions=positions,
            cell=self.cell if cell is None else cell,
            pbc=self.pbc,
        )


def molecule(potential: MultiHeadPotential, head: str, *, n_atoms: int = 8) -> Structure:
    """A random cluster without close contacts."""
    numbers = _species(potential, head, n_atoms)
    return Structure(
        numbers=numbers,
        positions=_spread_points(numbers, np.random.default_rng(1)),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
    )


def crystal(potential: MultiHeadPotential, head: str) -> Structure:
    """A random skewed cell, smaller than the cutoff in every direction."""
    numbers = _species(potential, head, 2)
    edge = 1.3 * 2 * covalent_radii[numbers].max()
    cell = edge * np.array([[1.0, 0.1, 0.0], [0.3, 1.1, 0.2], [0.1, 0.2, 0.9]])
    positions = np.array([[0.02, 0.01, 0.03], [0.45, 0.52, 0.55]]) @ cell
    return Structure(numbers=numbers, positions=positions, cell=cell, pbc=np.ones(3, dtype=bool))


def check_rotation(potential: MultiHeadPotential, head: str) -> None:
    """Rotations and reflections leave the energy and turn forces and stress with them."""
    tolerance = _tolerance(potential)
    for structure in (molecule(potential, head), crystal(potential, head)):
        before = _predict(potential, head, structure)
        for seed, sign in ((0, 1.0), (1, -1.0)):
            turn = _rotation(seed) * sign
            turned = structure.moved(structure.positions @ turn.T, structure.cell @ turn.T)
            after = _predict(potential, head, turned)
            q = torch.from_numpy(turn)
            _assert_close("energy", after.energy, before.energy, tolerance.same)
            _assert_close("forces", after.forces, before.forces @ q.T, tolerance.same)
            _assert_close("virial", after.virial, q @ before.virial @ q.T, tolerance.same)


def check_translation(potential: MultiHeadPotential, head: str) -> None:
    """Shifting all atoms changes nothing; neither does moving one by a lattice vector."""
    for structure in (molecule(potential, head), crystal(potential, head)):
        before = _predict(potential, head, structure)
        positions = structure.positions + np.array([0.3, -17.0, 4.0])
        positions[0] += 2 * structure.cell[0] - structure.cell[2]
        after = _predict(potential, head, structure.moved(positions))
        _assert_same(after, before, _tolerance(potential).same)


def check_permutation(potential: MultiHeadPotential, head: str) -> None:
    """The order of the atoms is the order of their forces and nothing else."""
    for structure in (molecule(potential, head), crystal(potential, head)):
        order = np.random.default_rng(2).permutation(len(structure.numbers))
        shuffled = Structure(
            numbers=structure.numbers[order],
            positions=structure.positions[order],
            cell=structure.cell,
            pbc=structure.pbc,
        )
        before, after = (_predict(potential, head, s) for s in (structure, shuffled))
        tolerance = _tolerance(potential).same
        _assert_close("energy", after.energy, before.energy, tolerance)
        _assert_close("forces", after.forces, before.forces[order], tolerance)


def check_left_handed_cell(potential: MultiHeadPotential, head: str) -> None:
    """Two lattice vectors in the other order describe the same crystal."""
    structure = crystal(potential, head)
    swapped = structure.moved(structure.positions, structure.cell[[1, 0, 2]])
    before, after = (_predict(potential, head, s) for s in (structure, swapped))
    _assert_same(after, before, _tolerance(potential).same)


def check_supercell(potential: MultiHeadPotential, head: str) -> None:
    """A repeated cell has the energy of its copies and the same stress."""
    structure = crystal(potential, head)
    repeats = [np.array(i) for i in np.ndindex(2, 1, 2)]
    supercell = Structure(
        numbers=np.tile(structure.numbers, len(repeats)),
        positions=np.concatenate([structure.positions + i @ structure.cell for i in repeats]),
        cell=structure.cell * np.array([[2.0], [1.0], [2.0]]),
        pbc=structure.pbc,
    )
    one, many = (_predict(potential, head, s) for s in (structure, supercell))
    tolerance = _tolerance(potential).same
    _assert_close("energy", many.energy, one.energy * len(repeats), tolerance)
    _assert_close("virial", many.virial, one.virial * len(repeats), tolerance)


def check_extensivity(potential: MultiHeadPotential, head: str) -> None:
    """Two copies far apart have twice the energy and the same forces."""
    structure = molecule(potential, head)
    pair = Structure(
        numbers=np.tile(structure.numbers, 2),
        positions=np.concatenate(
            [structure.positions, structure.positions + np.array([FAR, 0, 0])]
        ),
        cell=structure.cell,
        pbc=structure.pbc,
    )
    one, two = (_predict(potential, head, s) for s in (structure, pair))
    tolerance = _tolerance(potential).same
    _assert_close("energy", two.energy, 2 * one.energy, tolerance)
    _assert_close("forces", two.forces, torch.cat([one.forces, one.forces]), tolerance)


def check_mixed_periodicity(potential: MultiHeadPotential, head: str) -> None:
    """Periodic directions with images far away, or fewer of them, do not matter."""
    structure = molecule(potential, head)
    before = _predict(potential, head, structure)
    for pbc in ([True, False, False], [True, False, True], [True, True, True]):
        boxed = Structure(
            numbers=structure.numbers,
            positions=structure.positions,
            cell=np.diag(2 * FAR * np.array(pbc)),
            pbc=np.array(pbc),
        )
        after = _predict(potential, head, boxed)
        _assert_same(after, before, _tolerance(potential).same)


def check_batching(potential: MultiHeadPotential, head: str) -> None:
    """A batch gives what its structures give one by one."""
    structures = [molecule(potential, head), crystal(potential, head)]
    graphs = [s.graph(potential.cutoff) for s in structures]
    graphs.append(_single_atom(potential, head).graph(potential.cutoff))
    batch = predict(potential, batch_graphs(graphs), head)
    singles = [predict(potential, graph, head) for graph in graphs]
    tolerance = _tolerance(potential).same
    for field in ("energy", "atomic_energies", "forces", "virial"):
        expected = torch.cat([getattr(single, field) for single in singles])
        _assert_close(field, getattr(batch, field), expected, tolerance)


def check_isolated_atoms(potential: MultiHeadPotential, head: str) -> None:
    """An atom alone has exactly its reference energy and no force."""
    for symbol, energy in potential.head(head).config.reference_energies.items():
        alone = _predict(potential, head, _single_atom(potential, head, symbol))
        assert alone.energy.item() == energy, f"{symbol}: {alone.energy.item()} is not {energy}"
        assert not alone.forces.any(), f"{symbol}: a force on an isolated atom"


def check_empty_graph(potential: MultiHeadPotential, head: str) -> None:
    """A structure without atoms has no energy and no forces, and nothing is NaN."""
    empty = Structure(
        numbers=np.zeros(0, dtype=int),
        positions=np.zeros((0, 3)),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
    )
    prediction = _predict(potential, head, empty)
    assert prediction.energy.tolist() == [0.0], f"energy of nothing: {prediction.energy.tolist()}"
    assert prediction.forces.shape == (0, 3), f"forces of nothing: {prediction.forces.tolist()}"
    assert not prediction.virial.any(), f"virial of nothing: {prediction.virial.tolist()}"


def check_energy_sum(potential: MultiHeadPotential, head: str) -> None:
    """The energy is the sum of the atoms' energies; forces add up to zero."""
    for structure in (molecule(potential, head), crystal(potential, head)):
        prediction = _predict(potential, head, structure)
        tolerance = _tolerance(potential).same
        _assert_close("energy", prediction.energy[0], prediction.atomic_energies.sum(), 1e-12)
        _assert_close("net force", prediction.forces.sum(0), torch.zeros(3), tolerance)


def check_forces(potential: MultiHeadPotential, head: str) -> None:
    """Forces are minus the finite differences of the energy."""
    tolerance = _tolerance(potential)
    for structure in (molecule(potential, head, n_atoms=5), crystal(potential, head)):
        forces = _predict(potential, head, structure).forces

        def energy(index: int, step: float, structure: Structure = structure) -> float:
            positions = structure.positions.copy()
            positions.flat[index] += step
            return _energy(potential, head, structure.moved(positions))

        slopes = [
            _slope(lambda h, i=i: energy(i, h), tolerance.step)
            for i in range(structure.positions.size)
        ]
        expected = -torch.tensor(slopes, dtype=torch.float64).view(-1, 3)
        _assert_close("forces", forces, expected, tolerance.difference)


def check_stress(potential: MultiHeadPotential, head: str) -> None:
    """Stress is the finite difference of the energy by strain over the true volume."""
    tolerance = _tolerance(potential)
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
            return _energy(potential, head, strained)

        slopes[i, j] = _slope(energy, tolerance.step) / volume
    found = stress(predict(potential, graph, head).virial, graph)[0]
    _assert_close("stress", found, torch.from_numpy(slopes), tolerance.difference)


def check_cutoff(potential: MultiHeadPotential, head: str) -> None:
    """A pair fades out at the cutoff with two continuous derivatives, and is gone beyond."""
    for symbol in potential.head(head).config.elements:
        _check_cutoff_of(potential, head, symbol)


def _check_cutoff_of(potential: MultiHeadPotential, head: str, symbol: str) -> None:
    alone = 2 * _energy(potential, head, _single_atom(potential, head, symbol))
    # at two places, for an energy that changes its sign may be small by accident at one
    cubic = max(
        max(abs(_energy(potential, head, _pair(symbol, (1 - d) * potential.cutoff)) - alone), 1e-12)
        / d**3
        for d in (0.1, 0.05)
    )
    beyond = _energy(potential, head, _pair(symbol, potential.cutoff + 1e-9)) - alone
    assert beyond == 0.0, f"a pair beyond the cutoff has the energy {beyond}"
    for epsilon in (1e-2, 1e-3):
        near = _predict(potential, head, _pair(symbol, potential.cutoff * (1 - epsilon)))
        bound = 10 * cubic * epsilon**3
        noise = 1e-14 * abs(alone) + 1e-14
        assert abs(near.energy.item() - alone) <= bound + noise, (
            f"the energy {near.energy.item() - alone} at {epsilon} cutoffs inside the cutoff does "
            f"not vanish with two continuous derivatives (bound {bound})"
        )
        force_bound = 3 * bound / (epsilon * potential.cutoff)
        force = near.forces.abs().max().item()
        assert force <= force_bound + noise, (
            f"the force {force} at {epsilon} cutoffs inside the cutoff does not vanish with a "
            f"continuous derivative (bound {force_bound})"
        )


def check_close_approach(potential: MultiHeadPotential, head: str) -> None:
    """Two atoms pushed into each other repel, the more the closer."""
    for symbol in potential.head(head).config.elements:
        reach = 2 * covalent_radii[number_of[symbol]]
        energies = [
            _energy(potential, head, _pair(symbol, fraction * reach))
            for fraction in (0.2, 0.1, 0.05)
        ]
        assert energies[0] < energies[1] < energies[2], f"no repulsion of {symbol}: {energies}"
        force = _predict(potential, head, _pair(symbol, 0.05 * reach)).forces
        assert force[0, 0] < 0 < force[1, 0], f"{symbol} attract close up: {force.tolist()}"


def check_same_position(potential: MultiHeadPotential, head: str) -> None:
    """Two atoms at one position are a named error, not NaN."""
    message = "nothing"
    try:
        _pair(potential.head(head).config.elements[0], 0.0).graph(potential.cutoff)
    except ValueError as error:
        message = str(error)
    assert "same position" in message, f"two atoms at the same position raised {message}"


def check_double_backward(potential: MultiHeadPotential, head: str) -> None:
    """The gradient of a loss on forces and virial by the weights is its finite difference.

    The direction of the difference is the gradient and a random one of the same length: along the
    gradient alone, weights that get no gradient would not be noticed.
    """
    tolerance = _tolerance(potential)
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
        slope = _slope(along_direction, tolerance.step)
    finally:
        with torch.no_grad():
            for p, p0 in zip(parameters, start, strict=True):
                p.copy_(p0)
    _assert_close(
        "parameter gradient", torch.tensor(expected), torch.tensor(slope), tolerance.difference
    )


CHECKS: dict[str, Callable[[MultiHeadPotential, str], None]] = {
    "rotation": check_rotation,
    "translation": check_translation,
    "permutation": check_permutation,
    "left-handed cell": check_left_handed_cell,
    "supercell": check_supercell,
    "extensivity": check_extensivity,
    "mixed periodicity": check_mixed_periodicity,
    "batching": check_batching,
    "isolated atoms": check_isolated_atoms,
    "empty graph": check_empty_graph,
    "energy sum": check_energy_sum,
    "forces": check_forces,
    "stress": check_stress,
    "cutoff": check_cutoff,
    "close approach": check_close_approach,
    "same position": check_same_position,
    "double backward": check_double_backward,
}
"""Every check by name."""


def _tolerance(potential: MultiHeadPotential) -> Tolerance:
    return TOLERANCES[potential.backbone.dtype]


def _predict(potential: MultiHeadPotential, head: str, structure: Structure) -> Prediction:
    return predict(potential, structure.graph(potential.cutoff), head)


def _energy(potential: MultiHeadPotential, head: str, structure: Structure) -> float:
    with torch.no_grad():
        return predict_energy(potential, structure.graph(potential.cutoff), head).item()


def _species(potential: MultiHeadPotential, head: str, n_atoms: int) -> np.ndarray:
    known = [number_of[symbol] for symbol in potential.head(head).config.elements]
    return np.resize(np.array(known), n_atoms)


def _single_atom(potential: MultiHeadPotential, head: str, symbol: str | None = None) -> Structure:
    number = number_of[symbol or potential.head(head).config.elements[0]]
    return Structure(
        numbers=np.array([number]),
        positions=np.array([[1.0, 2.0, 3.0]]),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
    )


def _pair(symbol: str, distance: float) -> Structure:
    return Structure(
        numbers=np.full(2, number_of[symbol]),
        positions=np.array([[0.0, 0.0, 0.0], [distance, 0.0, 0.0]]),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
    )


def _spread_points(numbers: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Random points in a box, no two atoms closer than their covalent radii."""
    edge = 2.5 * covalent_radii[numbers].max() * len(numbers) ** (1 / 3)
    points = np.empty((0, 3))
    while len(points) < len(numbers):
        candidate = generator.uniform(0, edge, 3)
        reach = covalent_radii[numbers[len(points)]] + covalent_radii[numbers[: len(points)]]
        if (np.linalg.norm(points - candidate, axis=1) > 0.9 * reach).all():
            points = np.concatenate([points, candidate[None]])
    return points


def _rotation(seed: int) -> np.ndarray:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def _slope(function: Callable[[float], float], step: float) -> float:
    """Derivative at zero by a central difference of fourth order."""
    near = function(step) - function(-step)
    far = function(2 * step) - function(-2 * step)
    return (8 * near - far) / (12 * step)


def _norm(tensors: Sequence[Tensor]) -> float:
    return torch.stack([t.double().square().sum() for t in tensors]).sum().sqrt().item()


def _assert_same(after: Prediction, before: Prediction, tolerance: float) -> None:
    _assert_close("energy", after.energy, before.energy, tolerance)
    _assert_close("forces", after.forces, before.forces, tolerance)
    _assert_close("virial", after.virial, before.virial, tolerance)


def _assert_close(
    what: str, found: Float[Tensor, "..."], expected: Float[Tensor, "..."], tolerance: float
) -> None:
    error = (found.double() - expected.double()).abs().max().item()
    scale = max(1.0, expected.abs().max().item())
    assert error <= tolerance * scale, (
        f"{what} differs by {error:.3e}, {error / scale:.1e} relative; allowed {tolerance:.0e}"
    )
