from fractions import Fraction

import numpy as np
import pytest
from gfm_pretrain.cost import RelativeCost
from gfm_pretrain.data.mixture import n_dealt
from gfm_pretrain.data.size_statistics import size_statistics

CHANCE = np.random.default_rng(8)
N_ATOMS = CHANCE.integers(1, 200, 500)
N_EDGES = N_ATOMS * CHANCE.integers(0, 60, 500)
COST = RelativeCost(of_atom=2.5, of_pass=100.0)
COSTS = 2.5 * N_ATOMS + N_EDGES


def runs(n_runs: int):
    return zip(np.array_split(N_ATOMS, n_runs), np.array_split(N_EDGES, n_runs), strict=True)


@pytest.mark.parametrize("n_runs", [1, 7])
def test_means_and_variances_are_those_of_the_costs(n_runs):
    found = size_statistics(runs(n_runs))
    assert found == size_statistics(runs(1))
    assert found.mean_cost(COST) == pytest.approx(COSTS.mean(), rel=1e-12)
    assert found.variance(COST) == pytest.approx(COSTS.var(), rel=1e-9)


def test_sums_are_exact_beyond_64_bits():
    large = np.full(4, 10**9)
    assert size_statistics([(large, large)] * 5).edges_edges == 20 * 10**18
    alike = size_statistics([(np.full(9, 3), np.full(9, 7))])
    assert alike.variance(COST) == 0.0


@pytest.mark.parametrize("batch", [Fraction(40), Fraction(400), Fraction(500), Fraction(1300)])
def test_steps_differ_by_their_spread(batch):
    """Batches of an epoch in random order, whole epochs left over being the same in each."""
    size = int(batch % 500)
    drawn = [CHANCE.permutation(COSTS)[:size].sum() for _ in range(3000)]
    expected = size_statistics(runs(1)).step_spread(batch, COST)
    assert np.std(drawn) == pytest.approx(expected, rel=0.06)


def test_an_odd_structure_adds_to_the_spread():
    alike = size_statistics([(np.full(50, 4), np.full(50, 20))])
    batch = Fraction(13, 4)
    numbers = np.diff([n_dealt(step, batch) for step in range(401)])
    assert alike.step_spread(batch, COST) == pytest.approx(np.std(30.0 * numbers), rel=1e-9)
    assert alike.step_spread(Fraction(3), COST) == 0.0
