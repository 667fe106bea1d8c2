from itertools import combinations_with_replacement

import numpy as np
import pytest
from gfm_pretrain.packing.fluid import FINENESS, lay_heads
from gfm_pretrain.placement import place_heads


def cases(n_cases: int = 150):
    """Totals of heads, spans that are placed for other totals, ranks."""
    chance = np.random.default_rng(9)
    for _ in range(n_cases):
        n_heads, n_ranks = int(chance.integers(1, 9)), int(chance.integers(1, 25))
        totals = np.rint(10 ** chance.uniform(3, 6, n_heads)).astype(int)
        owners = place_heads(
            (totals * chance.uniform(0.7, 1.4, n_heads)).tolist(),
            n_ranks,
            spreads=(chance.choice([0.0, 0.2]) * totals).tolist(),
        )
        spans = [(ranks[0], ranks[-1]) for ranks in owners]
        order = sorted(range(n_heads), key=lambda h: spans[h])
        yield [int(totals[h]) for h in order], [spans[h] for h in order], n_ranks


def loads_of(laid, n_ranks: int, of_pass: int) -> np.ndarray:
    loads = np.zeros(n_ranks, dtype=np.int64)
    for interval in laid:
        interval.add_to(loads, of_pass=of_pass)
    return loads


def lowest_level(totals, spans, n_ranks) -> float:
    """Largest mean load of ranks a … b of what may be nowhere else. Hall's theorem, with parts."""
    return max(
        sum(t for t, (first, last) in zip(totals, spans, strict=True) if a <= first and last <= b)
        / (b - a + 1)
        for a, b in combinations_with_replacement(range(n_ranks), 2)
    )


def test_no_lower_level_would_do():
    for totals, spans, n_ranks in cases():
        loads = loads_of(lay_heads(totals, spans, n_ranks=n_ranks, of_pass=0), n_ranks, 0)
        best = lowest_level(totals, spans, n_ranks)
        assert loads.sum() == sum(totals)
        assert best - 1 <= loads.max() <= best * (1 + 2.0 ** (1 - FINENESS)) + 2


@pytest.mark.parametrize("of_pass", [0, 1, 700, 10**6])
def test_heads_are_whole_and_on_their_ranks(of_pass):
    for totals, spans, n_ranks in cases():
        laid = lay_heads(totals, spans, n_ranks=n_ranks, of_pass=of_pass)
        for total, (first, last), interval in zip(totals, spans, laid, strict=True):
            loads = loads_of([interval], n_ranks, 0)
            assert loads.sum() == total
            used = np.flatnonzero(loads)
            assert first <= used.min()
            assert used.max() <= last
            with_passes = loads_of([interval], n_ranks, of_pass)
            assert (with_passes - loads)[used].tolist() == [of_pass] * len(used)


def test_what_was_added_can_be_taken_away():
    (totals, spans, n_ranks), *_ = cases(1)
    (interval, *_) = lay_heads(totals, spans, n_ranks=n_ranks, of_pass=5)
    loads = np.arange(n_ranks)
    interval.add_to(loads, of_pass=5)
    interval.add_to(loads, of_pass=5, sign=-1)
    assert loads.tolist() == list(range(n_ranks))


def test_a_pass_that_is_dear_keeps_heads_whole():
    """Two heads on two ranks that own both: cut evenly, each rank would make both passes."""
    laid = lay_heads([100, 80], [(0, 1), (0, 1)], n_ranks=2, of_pass=10**6)
    assert [interval.first for interval in laid] == [0, 1]
    assert loads_of(laid, 2, 10**6).tolist() == [10**6 + 100, 10**6 + 80]
