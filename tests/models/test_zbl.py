"""The short-range repulsion against numbers worked out apart from the code."""

import numpy as np
import pytest
import torch
from ase import Atoms
from gfm_models.graph import edge_vectors, graph_from_atoms
from gfm_models.zbl import AMPLITUDES, ZBL

CUTOFF = 5.0


def pair_energy(
    symbols: str, distance: float, *, cutoff: float = CUTOFF, reach: float = 1.0
) -> float:
    graph = graph_from_atoms(Atoms(symbols, [[0, 0, 0], [0, 0, distance]]), cutoff=cutoff)
    return ZBL(cutoff=cutoff, reach=reach)(graph, edge_vectors(graph)).sum().item()


@pytest.mark.parametrize(
    ("symbols", "distance", "energy"),
    [
        # a = 0.155144 Å, φ(4.898665) = 0.0544710, envelope(0.76 / 1.52) = 219/256
        ("CC", 0.76, 31.78412479959650),
        # a = 0.179289 Å, φ(2.788790) = 0.1440089, envelope(0.50 / 0.97) = 0.834225
        ("HO", 0.50, 27.67860886741935),
    ],
)
def test_value_by_hand(symbols: str, distance: float, energy: float) -> None:
    """The formula with 30 decimal digits."""
    assert pair_energy(symbols, distance) == pytest.approx(energy, rel=1e-13)


def test_contact_is_the_bare_coulomb_energy() -> None:
    """k Z² / r, less the screening of a 1e-5th of the way."""
    assert sum(AMPLITUDES) == pytest.approx(1.0, abs=1e-12)
    assert pair_energy("CC", 1e-5) == pytest.approx(14.3996454784 * 36 / 1e-5, rel=1e-3)


def test_the_two_atoms_share_alike_and_the_order_is_nothing() -> None:
    graph = graph_from_atoms(Atoms("HO", [[0, 0, 0], [0, 0, 0.5]]), cutoff=CUTOFF)
    energies = ZBL(cutoff=CUTOFF, reach=1.0)(graph, edge_vectors(graph))
    assert energies.dtype == torch.float64
    assert energies[0] == energies[1]
    assert pair_energy("HO", 0.5) == pair_energy("OH", 0.5)


@pytest.mark.parametrize(("symbols", "reach"), [("CC", 1.52), ("HO", 0.97), ("CuH", 1.63)])
def test_nothing_beyond_the_covalent_radii(symbols: str, reach: float) -> None:
    assert pair_energy(symbols, reach * (1 - 1e-2)) > 0
    assert pair_energy(symbols, reach * (1 + 1e-12)) == 0.0
    assert pair_energy(symbols, reach * 1.5) == 0.0


def test_reach_moves_the_end_and_nothing_else() -> None:
    assert pair_energy("CC", 1.52 * 0.7 * (1 - 1e-2), reach=0.7) > 0
    assert pair_energy("CC", 1.52 * 0.7 * (1 + 1e-12), reach=0.7) == 0.0
    near, far = (pair_energy("CC", 0.1, reach=reach) for reach in (0.7, 1.0))
    assert near == pytest.approx(far, rel=1e-4)


def test_it_falls_smoothly_to_the_end() -> None:
    """Halfway closer to the end there is an eighth of the energy: two derivatives vanish."""
    gaps = 1e-2 * 0.5 ** np.arange(4)
    energies = np.array([pair_energy("CC", 1.52 * (1 - gap)) for gap in gaps])
    np.testing.assert_allclose(energies[1:] / energies[:-1], 1 / 8, rtol=0.1)


def test_it_repels_at_every_distance() -> None:
    energies = [pair_energy("CO", r) for r in np.linspace(0.02, 1.41, 60)]
    assert (np.diff(energies) < 0).all()


def test_a_short_cutoff_ends_it_smoothly() -> None:
    """Two caesium atoms reach 4.88 Å, farther than edges of a short cutoff."""
    assert pair_energy("CsCs", 2.0, cutoff=3.0) > 1.0
    assert pair_energy("CsCs", 3.0 * (1 - 1e-4), cutoff=3.0) < 1e-8


def test_a_lone_atom_has_none() -> None:
    graph = graph_from_atoms(Atoms("Cs"), cutoff=CUTOFF)
    assert ZBL(cutoff=CUTOFF, reach=1.0)(graph, edge_vectors(graph)).tolist() == [0.0]
