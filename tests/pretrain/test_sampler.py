from collections import Counter

import numpy as np
import pytest
from gfm_pretrain.data.sampler import batch_places


def places(step, *, head="a", seed=0, batch_size=3, n_structures=7) -> list[int]:
    found = batch_places(
        seed=seed, head=head, step=step, batch_size=batch_size, n_structures=n_structures
    )
    return found.tolist()


@pytest.mark.parametrize(("batch_size", "n_structures"), [(3, 7), (1, 4), (5, 5), (16, 5), (2, 1)])
def test_every_epoch_has_every_structure_once(batch_size, n_structures):
    n_steps = 12 * n_structures
    dealt = [
        place
        for step in range(n_steps)
        for place in places(step, batch_size=batch_size, n_structures=n_structures)
    ]
    assert len(dealt) == n_steps * batch_size
    for epoch in range(len(dealt) // n_structures):
        of_epoch = dealt[epoch * n_structures : (epoch + 1) * n_structures]
        assert Counter(of_epoch) == Counter(range(n_structures))


def test_a_step_is_the_same_whatever_was_asked_before():
    forwards = [places(step) for step in range(10)]
    assert [places(step) for step in reversed(range(10))] == forwards[::-1]
    assert places(9) == forwards[9]


def test_epochs_heads_and_seeds_have_orders_of_their_own():
    def order(epoch, **which):
        return tuple(places(epoch, batch_size=50, n_structures=50, **which))

    orders = {
        order(epoch, head=head, seed=seed)
        for epoch in range(3)
        for head in ("a", "b")
        for seed in (0, 1)
    }
    assert len(orders) == 12


def test_orders_stay_those_of_earlier_versions():
    """A run that is continued with a newer version sees what it would have seen."""
    assert places(0, batch_size=7) == EPOCH_0
    assert places(2, head="wb97x", seed=5) == STEP_2


EPOCH_0 = [4, 6, 3, 2, 1, 0, 5]
STEP_2 = [3, 0, 4]


def test_a_small_share_of_the_structures_is_not_always_the_first():
    first = [places(epoch, batch_size=100, n_structures=100)[0] for epoch in range(200)]
    assert 30 < np.mean(first) < 70
    assert len(set(first)) > 60
