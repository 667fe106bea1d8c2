import numpy as np
import pytest
from gfm_pretrain.packing.longest_first import FEW_RANKS, deal_longest_first
from packing_cases import deal_slowly

CHANCE = np.random.default_rng(3)
KINDS = {
    "equal": lambda n: np.full(n, 100),
    "few values": lambda n: CHANCE.choice([1, 20, 55, 300], n),
    "skewed": lambda n: np.rint(1000 * np.exp(CHANCE.normal(size=n))),
    "free": lambda n: np.zeros(n),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_ranks", [1, 2, 7, FEW_RANKS, FEW_RANKS + 1, 200])
@pytest.mark.parametrize("n_costs", [0, 1, 30, 150, 900])
@pytest.mark.parametrize("laden", [False, True])
def test_many_at_a_time_is_one_after_the_other(kind, n_ranks, n_costs, laden):
    costs = -np.sort(-KINDS[kind](n_costs)).astype(np.int64)
    most = max(1, 2 * int(costs.sum()) // n_ranks) if laden else 1
    loads = CHANCE.integers(0, most, n_ranks)
    taken, expected = deal_slowly(costs.tolist(), loads.tolist())
    assert deal_longest_first(costs, loads).tolist() == taken
    assert loads.tolist() == expected
