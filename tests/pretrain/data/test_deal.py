from fractions import Fraction

import numpy as np
import pytest
from gfm_pretrain.data.deal import Deal, continued_deals, first_deals


def test_a_run_that_was_never_changed_deals_as_the_step_alone_says():
    deals = first_deals({"a": Fraction(37, 10), "b": Fraction(37, 10)})
    assert [deals["a"].n_dealt(step) for step in range(5)] == [0, 3, 7, 11, 14]
    assert [deals["b"].n_dealt(step) for step in range(5)] == [0, 4, 8, 11, 15]  # 0.618 ahead
    assert deals["b"].n_dealt(10**9) in (37 * 10**8, 37 * 10**8 + 1)
    assert all(deal.key == name for name, deal in deals.items())


@pytest.mark.parametrize("seed", range(30))
def test_nothing_is_left_out_or_taken_twice_when_batch_sizes_change(seed):
    """Property: the numbers of all steps follow one another, however often the mixture changes."""
    rng = np.random.default_rng(seed)
    deal = Deal(key="a", batch_size=Fraction(5, 2), phase=Fraction(int(rng.integers(9)), 9))
    step, dealt = 0, 0
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
    phase = first_deals({"a": Fraction(3), "b": Fraction(2)})["b"].phase
    assert deals["b"] == Deal(key="b", batch_size=Fraction(2), since=10, phase=phase)
    assert deals["b"].numbers(10) == range(2)


def test_deals_of_snapshots_without_phases_are_read():
    plain = Deal(key="a", batch_size=Fraction(5, 2), since=4, before=7).to_plain()
    del plain["phase"]
    assert Deal.from_plain(plain) == Deal(key="a", batch_size=Fraction(5, 2), since=4, before=7)


def test_a_new_head_under_a_name_that_is_another_one_s_key_has_an_order_of_its_own():
    renamed = {"b": Deal(key="a", batch_size=Fraction(3))}
    deals = continued_deals(renamed, {"a": Fraction(3), "b": Fraction(3)}, step=10)
    assert deals["b"].key == "a"
    assert deals["a"].key == "a@10"


def test_a_head_that_left_is_forgotten():
    old = first_deals({"a": Fraction(3), "b": Fraction(2)})
    assert list(continued_deals(old, {"b": Fraction(2)}, step=10)) == ["b"]
