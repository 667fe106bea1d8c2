"""No atoms, one atom, and two that are far apart or very close."""

import numpy as np
from ase.data import atomic_numbers as number_of
from ase.data import covalent_radii

from gfm_models.potential import MultiHeadPotential
from gfm_models.testing.comparison import energy_of, predict_structure
from gfm_models.testing.structures import Structure, pair, single_atom


def check_isolated_atoms(potential: MultiHeadPotential, head: str) -> None:
    """An atom alone has exactly its reference energy and no force."""
    for symbol, energy in potential.head(head).config.reference_energies.items():
        alone = predict_structure(potential, head, single_atom(potential, head, symbol))
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
    prediction = predict_structure(potential, head, empty)
    assert prediction.energy.tolist() == [0.0], f"energy of nothing: {prediction.energy.tolist()}"
    assert prediction.forces.shape == (0, 3), f"forces of nothing: {prediction.forces.tolist()}"
    assert not prediction.virial.any(), f"virial of nothing: {prediction.virial.tolist()}"


def check_cutoff(potential: MultiHeadPotential, head: str) -> None:
    """A pair fades out at the cutoff with two continuous derivatives, and is gone beyond."""
    for symbol in potential.head(head).config.elements:
        _check_cutoff_of(potential, head, symbol)


def _check_cutoff_of(potential: MultiHeadPotential, head: str, symbol: str) -> None:
    alone = 2 * energy_of(potential, head, single_atom(potential, head, symbol))
    # at two depths, for an energy that changes its sign may be small by accident at one
    inside = {
        depth: energy_of(potential, head, pair(symbol, (1 - depth) * potential.cutoff)) - alone
        for depth in (0.1, 0.05)
    }
    cubic = max(max(abs(energy), 1e-12) / depth**3 for depth, energy in inside.items())
    beyond = energy_of(potential, head, pair(symbol, potential.cutoff + 1e-9)) - alone
    assert beyond == 0.0, f"a pair beyond the cutoff has the energy {beyond}"
    for epsilon in (1e-2, 1e-3):
        near = predict_structure(potential, head, pair(symbol, potential.cutoff * (1 - epsilon)))
        bound = 3 * cubic * epsilon**3
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
            energy_of(potential, head, pair(symbol, fraction * reach))
            for fraction in (0.2, 0.1, 0.05)
        ]
        assert energies[0] < energies[1] < energies[2], f"no repulsion of {symbol}: {energies}"
        force = predict_structure(potential, head, pair(symbol, 0.05 * reach)).forces
        assert force[0, 0] < 0 < force[1, 0], f"{symbol} attract close up: {force.tolist()}"


def check_same_position(potential: MultiHeadPotential, head: str) -> None:
    """Two atoms at one position are a named error, not NaN."""
    message = "nothing"
    try:
        pair(potential.head(head).config.elements[0], 0.0).graph(potential.cutoff)
    except ValueError as error:
        message = str(error)
    assert "same position" in message, f"two atoms at the same position raised {message}"
