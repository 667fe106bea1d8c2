from fractions import Fraction

import numpy as np
import pytest
from gfm_pretrain.data.deal import Deal, continued_deals, first_deals
from gfm_pretrain.data.sampler import batch_places, dealt_places


def test_a_run_that_was_never_changed_deals_as_the_step_alone_says():
    deal = first_deals({"a": Fraction(37, 10)})["a"]
    for step in (0, 1, 17, 10**6):
        found = dealt_places(deal.numbers(step), seed=3, key=deal.key, n_structures=11)
        expected = batch_places(
            seed=3, head="a", step=step, batch_size=Fraction(37, 10), n_structures=11
        )
        assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("seed", range(30))
def test_nothing_is_left_out_or_taken_twice_when_batch_sizes_change(seed):
    """Property: the numbers of all steps follow one another, however often the mixture changes."""
    rng = np.random.default_rng(seed)
    deal, step, dealt = Deal(key="a", batch_size=Fraction(5, 2)), 0, 0
    for _ in range(5):
        for _ in range(int(rng.integers(0, 9))):
            assert deal.numbers(step).start == dealt
            dealt = deal.numbers(step).stop
            step += 1
        size = Fraction(int(rng.integers(1, 40)), int(rng.integers(1, 9)))
        deal = deal.with_batch_size(size, step=step)
        assert deal.n_dealt(step) == dealt
        assert deal.batch_size == size
        assert Deal.from_plain(deal.to_plain()) == deal


def test_the_same_batch_size_changes_nothing():
    deal = Deal(key="a", batch_size=Fraction(5, 2), since=4, before=7)
    assert deal.with_batch_size(Fraction(10, 4), step=9) is deal


def test_a_head_that_joins_begins_its_own_sequence():
    old = first_deals({"a": Fraction(3)})
    deals = continued_deals(old, {"a": Fraction(3), "b": Fraction(2)}, step=10)
    assert deals["a"] is old["a"]
    assert deals["b"] == Deal(key="b", batch_size=Fraction(2), since=10)
    assert deals["b"].numbers(10) == range(2)


def test_a_new_head_under_a_name_that_is_another_one_s_key_has_an_order_of_its_own():
    renamed = {"b": Deal(key="a", batch_size=Fraction(3))}
    deals = continued_deals(renamed, {"a": Fraction(3), "b": Fraction(3)}, step=10)
    assert deals["b"].key == "a"
    assert deals["a"].key == "a@10"


def test_a_head_that_left_is_forgotten():
    old = first_deals({"a": Fraction(3), "b": Fraction(2)})
    assert list(continued_deals(old, {"b": Fraction(2)}, step=10)) == ["b"]
