import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from gfm_pretrain.data.deal import Deal
from gfm_pretrain.data.sampler import dealt_places
from gfm_pretrain.packing.pack import pack
from gfm_pretrain.packing.passes import split_by_size

B = Fraction


def places(
    step: int, *, head: str = "a", seed: int = 0, batch_size: B | int = 3, n_structures: int = 7
) -> list[int]:
    numbers = Deal(key=head, batch_size=B(batch_size)).numbers(step)
    return dealt_places(numbers, seed=seed, key=head, n_structures=n_structures).tolist()


def epoch_of(n_structures: int, **which) -> list[int]:
    return places(0, batch_size=n_structures, n_structures=n_structures, **which)


@pytest.mark.parametrize("n_structures", range(1, 301))
def test_an_epoch_is_a_permutation_of_a_small_set(n_structures):
    assert sorted(epoch_of(n_structures)) == list(range(n_structures))


@pytest.mark.parametrize("n_structures", np.random.default_rng(0).integers(301, 200_000, 5))
def test_an_epoch_is_a_permutation_of_a_large_set(n_structures):
    n = int(n_structures)
    assert np.array_equal(np.sort(epoch_of(n, seed=3, head="b")), np.arange(n))


def test_places_of_a_set_that_is_never_written_down():
    """Distinct, in range, and spread evenly: the mean of 30000 is known to 0.2 %."""
    n = 10**12
    found = np.array(places(5, batch_size=30_000, n_structures=n))
    assert len(np.unique(found)) == 30_000
    assert found.min() >= 0
    assert found.max() < n
    assert found.mean() / n == pytest.approx(0.5, abs=0.01)
    assert np.corrcoef(found[:-1], found[1:])[0, 1] == pytest.approx(0.0, abs=0.03)


SIZES = [(B(3), 7), (B(1), 4), (B(5), 5), (B(16), 5), (B(2), 1)]
FRACTIONS = [(B(37, 10), 7), (B(1, 3), 4), (B(22, 7), 20), (B(7, 1000), 2)]


@pytest.mark.parametrize(("batch_size", "n_structures"), [*SIZES, *FRACTIONS], ids=str)
def test_every_epoch_has_every_structure_once(batch_size, n_structures):
    n_steps = math.ceil(12 * n_structures / batch_size)
    dealt = [
        place
        for step in range(n_steps)
        for place in places(step, batch_size=batch_size, n_structures=n_structures)
    ]
    assert len(dealt) == math.floor(n_steps * batch_size)
    for epoch in range(len(dealt) // n_structures):
        of_epoch = dealt[epoch * n_structures : (epoch + 1) * n_structures]
        assert Counter(of_epoch) == Counter(range(n_structures))


@pytest.mark.parametrize("batch_size", [B(37, 10), B(1, 3), B(22, 7), B(617, 5)], ids=str)
def test_a_batch_has_the_whole_numbers_beside_its_size(batch_size):
    n_steps = 3 * batch_size.denominator
    found = [len(places(step, batch_size=batch_size, n_structures=50)) for step in range(n_steps)]
    assert set(found) <= {math.floor(batch_size), math.ceil(batch_size)}
    assert sum(found) == n_steps * batch_size


def test_a_long_run_does_not_drift():
    """After 10^9 steps, still from floor(t·b) up to floor((t+1)·b); floats are off by then."""
    batch_size, step, n = B(10_000_001, 3_000_000), 10**9, 10**5
    start = step * 10_000_001 // 3_000_000
    stop = (step + 1) * 10_000_001 // 3_000_000
    epoch, first = divmod(start, n)
    whole = places(epoch, batch_size=n, n_structures=n)
    expected = whole[first : first + stop - start]
    assert places(step, batch_size=batch_size, n_structures=n) == expected


def test_a_step_is_the_same_whatever_was_asked_before():
    forwards = [places(step) for step in range(10)]
    assert [places(step) for step in reversed(range(10))] == forwards[::-1]
    assert places(9) == forwards[9]


def test_epochs_heads_and_seeds_have_orders_of_their_own():
    orders = {
        tuple(places(epoch, batch_size=50, n_structures=50, head=head, seed=seed))
        for epoch in range(3)
        for head in ("a", "b")
        for seed in (0, 1)
    }
    assert len(orders) == 12


def test_orders_stay_those_of_earlier_versions():
    """A run that is continued with a newer version sees what it would have seen."""
    assert epoch_of(7) == EPOCH_0
    assert places(2, head="wb97x", seed=5) == STEP_2
    assert places(10**6, batch_size=B(37, 10), n_structures=24_000_000) == STEP_MILLION


EPOCH_0 = [6, 5, 0, 1, 4, 3, 2]
STEP_2 = [1, 6, 5]
STEP_MILLION = [15933743, 16686637, 18229706]


@pytest.mark.parametrize("n_structures", [2, 5, 16, 60])
def test_every_place_comes_equally_often_at_every_position(n_structures):
    """χ² over (n-1)² degrees of freedom stays within five standard deviations."""
    n, n_epochs = n_structures, 60_000 // n_structures
    orders = np.array(places(0, batch_size=n * n_epochs, n_structures=n)).reshape(n_epochs, n)
    counts = np.stack([np.bincount(orders[:, position], minlength=n) for position in range(n)])
    expected, freedom = n_epochs / n, (n - 1) ** 2
    chi_squared = float(((counts - expected) ** 2).sum() / expected)
    assert abs(chi_squared - freedom) < 5 * math.sqrt(2 * freedom)


def test_every_order_comes_equally_often():
    """The 24 orders of four structures in 10000 epochs: χ² with 23 degrees of freedom."""
    orders = np.array(places(0, batch_size=40_000, n_structures=4)).reshape(-1, 4)
    counts = np.array(list(Counter(map(tuple, orders.tolist())).values()))
    assert len(counts) == 24
    expected = 10_000 / 24
    assert ((counts - expected) ** 2).sum() / expected < 23 + 5 * math.sqrt(46)


@pytest.mark.parametrize("n_owners", [1, 2, 3])
@pytest.mark.parametrize("step", [0, 1, 17])
def test_owners_take_disjoint_parts_of_the_batch(n_owners, step):
    """And micro-batches cut each owner's part without changing it."""
    n = 40
    costs = np.random.default_rng(1).uniform(1, 100, n)
    batch = {
        "a": np.array(places(step, batch_size=B(37, 10), n_structures=n)),
        "b": np.array(places(step, head="b", batch_size=11, n_structures=n)),
    }
    owners = {"a": range(n_owners), "b": range(n_owners)}
    ranks = pack({head: costs[of_head] for head, of_head in batch.items()}, owners, n_owners)
    for head, of_head in batch.items():
        parts = [of_head[ranks[head] == rank] for rank in range(n_owners)]
        assert Counter(np.concatenate(parts).tolist()) == Counter(of_head.tolist())
        for part in parts:
            cut = [part[run] for run in split_by_size(np.ceil(costs[part]).astype(int), 120)]
            assert np.concatenate([part[:0], *cut]).tolist() == part.tolist()
