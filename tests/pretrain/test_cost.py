import numpy as np
import pytest
from gfm_pretrain.cost import ROUGH, RelativeCost, StepCost, fit_cost

TRUE = np.array([9e-3, 1e-4, 2e-5])
"""Seconds of a pass, an atom, an edge: an atom costs 5 edges, a pass 450."""


def timings(*, edges_per_atom, noise=0.0, seed=0, true=TRUE, n_atoms=(5, 40, 160, 640)):
    """Atoms, edges, seconds of passes of all these sizes and compositions."""
    chance = np.random.default_rng(seed)
    rows = np.array([(1.0, n, n * e) for n in n_atoms for e in edges_per_atom])
    seconds = rows @ true * np.exp(noise * chance.standard_normal(len(rows)))
    return np.column_stack([rows[:, 1:], seconds])


def test_what_follows_the_formula_is_found():
    found = fit_cost(timings(edges_per_atom=(8, 20, 60)))
    assert found.per_pass == pytest.approx(TRUE[0], rel=0.02)
    assert found.per_atom == pytest.approx(TRUE[1], rel=0.05)
    assert found.per_edge == pytest.approx(TRUE[2], rel=0.02)
    assert found.residual < 0.01
    assert found.n_timings == 12
    assert found.seconds(n_passes=2, n_atoms=10, n_edges=100) == pytest.approx(
        2 * TRUE[0] + 10 * TRUE[1] + 100 * TRUE[2], rel=0.02
    )


@pytest.mark.parametrize("seed", range(20))
def test_noise_and_a_stalled_pass_change_little(seed):
    noisy = timings(edges_per_atom=(8, 20, 60), noise=0.03, seed=seed)
    noisy[seed % len(noisy), 2] *= 5.0  # something else had the core
    found = fit_cost(noisy)
    assert found.cost_of_atom == pytest.approx(5.0, rel=0.5)
    assert found.cost_of_pass == pytest.approx(450.0, rel=0.25)
    assert found.residual < 0.1


def test_the_rough_guess_decides_where_atoms_and_edges_cannot_be_told_apart():
    found = fit_cost(timings(edges_per_atom=(18,)))
    assert found.cost_of_atom == pytest.approx(ROUGH.of_atom, rel=0.05)
    assert 18 * found.per_edge + found.per_atom == pytest.approx(18 * TRUE[2] + TRUE[1], rel=0.02)


def test_one_timing_is_enough_for_a_cost():
    found = fit_cost(np.array([[10.0, 100.0, 0.02]]))
    assert found.seconds(n_passes=1, n_atoms=10, n_edges=100) == pytest.approx(0.02, rel=0.01)
    assert found.residual < 0.01


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_nothing_costs_less_than_nothing(lost):
    true = np.where(np.arange(3) == lost, 0.0, TRUE)
    found = fit_cost(timings(edges_per_atom=(8, 20, 60), noise=0.05, true=true))
    assert min(found.per_pass, found.per_atom, found.per_edge) >= 0
    assert 0.25 <= found.relative.of_atom <= 64
    assert 0 <= found.relative.of_pass <= 2**24


def cost(per_pass, per_atom, per_edge) -> StepCost:
    return StepCost(
        per_pass=per_pass, per_atom=per_atom, per_edge=per_edge, residual=0.0, n_timings=1
    )


@pytest.mark.parametrize(
    ("found", "relative"),
    [
        (cost(0.0, 4.0, 1.0), (4.0, 0.0)),
        (cost(15.0, 3.5, 1.0), (4.0, 0.0)),
        (cost(450.0, 4.7, 1.0), (4.0, 512.0)),
        (cost(300.0, 4.8, 1.0), (2**2.5, 256.0)),
        (cost(1e9, 1e9, 1.0), (64.0, 2**24)),
        (cost(1.0, 1.0, 0.0), (64.0, 2**24)),
        (cost(0.0, 0.0, 1.0), (0.25, 0.0)),
    ],
)
def test_the_relative_cost_lies_on_a_coarse_grid(found, relative):
    assert found.relative == RelativeCost(of_atom=relative[0], of_pass=relative[1])


def test_runs_alike_mostly_find_the_same():
    """With 3 % of noise, 9 in 10 of the costs are one of two neighbours on the grid."""
    grid = [
        fit_cost(timings(edges_per_atom=(8, 20, 60), noise=0.03, seed=seed)).relative.of_atom
        for seed in range(50)
    ]
    assert sum(value in (4.0, 2**2.5) for value in grid) >= 45


def test_the_cost_of_structures_is_a_sum():
    assert RelativeCost(of_atom=3.0, of_pass=100.0).of(2, 10) == 16
