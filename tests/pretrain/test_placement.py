import math
import random
from collections import Counter
from collections.abc import Iterator
from itertools import combinations, pairwise, product

import numpy as np
import pytest
from gfm_pretrain.placement import place_heads

METHODS = ("wrap-around", "whole-ranks")
SIXTEEN_SOURCES = [100, 5, 1.6, 20, 9, 8, 29, 101, 83, 34, 49, 6, 12.6, 33, 4.2, 10]
"""Million structures of sixteen sources, roughly: the most and the fewest differ by 63 times."""


def cost_sets(n_sets: int = 40) -> list[list[float]]:
    """Costs of 1 to 20 heads: equal, mildly different, and over six orders of magnitude."""
    chance = random.Random(7)
    sets = [[1.0], [1.0, 1e-9], [1e-9, 1.0], [1e-9, 1.0, 1e-9], [1.0] * 5, [1e9, *[1.0] * 9]]
    for _ in range(n_sets):
        width = chance.choice([0.0, 1.0, 6.0])
        sets.append([10 ** chance.uniform(0, width) for _ in range(chance.randint(1, 20))])
    return sets


@pytest.mark.parametrize("method", METHODS)
def test_every_head_is_owned_and_no_rank_is_idle(method):
    for costs in cost_sets():
        for n_ranks in range(1, 65):
            owners = place_heads(costs, n_ranks, method=method)
            assert len(owners) == len(costs)
            assert all(owners)
            assert {rank for ranks in owners for rank in ranks} == set(range(n_ranks))
            assert all(list(ranks) == sorted(set(ranks)) for ranks in owners)


@pytest.mark.parametrize("method", METHODS)
def test_the_ranks_of_a_head_are_neighbours(method):
    for costs in cost_sets():
        for n_ranks in range(1, 65):
            for ranks in place_heads(costs, n_ranks, method=method):
                assert list(ranks) == list(range(ranks[0], ranks[-1] + 1))


def test_wrap_around_shares_ranks_at_the_ends_only():
    for costs in cost_sets():
        for n_ranks in range(1, 65):
            owners = place_heads(costs, n_ranks)
            for ranks, after in pairwise(owners):
                assert ranks[0] <= after[0]
                assert ranks[-1] <= after[-1]
                assert ranks[-1] >= after[0] - 1
                assert len(set(ranks) & set(after)) <= 1


def test_everywhere_is_every_head_on_every_rank():
    assert place_heads([1.0, 5.0], 3, method="everywhere") == [(0, 1, 2), (0, 1, 2)]


def test_wrap_around_is_balanced_for_any_number_of_ranks():
    for costs in cost_sets():
        for n_ranks in range(1, 65):
            load = ideal_load(costs, place_heads(costs, n_ranks), n_ranks)
            assert max(load) <= 1.05
            assert math.fsum(load) == pytest.approx(n_ranks)


def ideal_load(costs, owners, n_ranks) -> list[float]:
    """Load of each rank in ideal shares, if heads are dealt to their owners as evenly as can be.

    Heads are laid end to end: a head fills what its first rank has left, then the next.
    """
    load = [0.0] * n_ranks
    for cost, ranks in zip(costs, owners, strict=True):
        rest = cost * n_ranks / math.fsum(costs)
        for rank in ranks:
            part = rest if rank == ranks[-1] else min(rest, max(0.0, 1.0 - load[rank]))
            load[rank] += part
            rest -= part
    return load


def test_whole_ranks_have_one_head_each_if_there_are_enough():
    for costs in cost_sets():
        for n_ranks in range(len(costs), 65):
            owners = place_heads(costs, n_ranks, method="whole-ranks")
            assert Counter(r for ranks in owners for r in ranks) == Counter(range(n_ranks))


def test_whole_ranks_go_to_the_head_with_the_most_cost_per_rank():
    for costs in cost_sets():
        for n_ranks in range(len(costs), 65):
            counts = [len(ranks) for ranks in place_heads(costs, n_ranks, method="whole-ranks")]
            largest = max(cost / n for cost, n in zip(costs, counts, strict=True))
            for cost, n in zip(costs, counts, strict=True):
                assert n == 1 or cost / (n - 1) >= largest * (1 - 1e-12)


def test_whole_heads_share_ranks_that_are_too_few():
    assert place_heads([1, 5, 3, 2], 2, method="whole-ranks") == [(0,), (0,), (1,), (1,)]
    for costs in cost_sets():
        for n_ranks in range(1, len(costs)):
            owners = place_heads(costs, n_ranks, method="whole-ranks")
            assert all(len(ranks) == 1 for ranks in owners)


def test_known_placements():
    assert place_heads([1, 1], 2) == [(0,), (1,)]
    assert place_heads([1, 1, 1], 1) == [(0,), (0,), (0,)]
    assert place_heads([3, 1], 2) == [(0, 1), (1,)]
    assert place_heads([1, 2, 1], 8) == [(0, 1), (2, 3, 4, 5), (6, 7)]
    assert place_heads([1, 2, 1], 2) == [(0,), (0, 1), (1,)]
    assert place_heads([100, 1], 4) == [(0, 1, 2, 3), (3,)]


def compositions(total: int, n_parts: int) -> Iterator[tuple[int, ...]]:
    """All ways to write a number as a sum of so many positive ones, in order."""
    for cuts in combinations(range(1, total), n_parts - 1):
        yield tuple(b - a for a, b in pairwise((0, *cuts, total)))


def small_cost_sets(n_sets: int, *, most_heads: int) -> Iterator[list[float]]:
    chance = random.Random(3)
    for _ in range(n_sets):
        width = chance.choice([0.3, 1.0, 3.0])
        yield [10 ** chance.uniform(0, width) for _ in range(chance.randint(1, most_heads))]


def test_no_other_numbers_of_whole_ranks_have_a_smaller_maximum():
    for costs in small_cost_sets(60, most_heads=5):
        for n_ranks in range(len(costs), 11):
            owners = place_heads(costs, n_ranks, method="whole-ranks")
            found = max(c / len(ranks) for c, ranks in zip(costs, owners, strict=True))
            best = min(
                max(c / n for c, n in zip(costs, counts, strict=True))
                for counts in compositions(n_ranks, len(costs))
            )
            assert found == best


def test_whole_heads_on_fewer_ranks_are_within_a_third_of_the_best():
    # Graham, SIAM J. Appl. Math. 17, 416 (1969): longest first is within 4/3 - 1/(3 m).
    for costs in small_cost_sets(40, most_heads=5):
        for n_ranks in range(1, len(costs)):
            owners = place_heads(costs, n_ranks, method="whole-ranks")
            best = min(
                max(sum(c for c, r in zip(costs, chosen, strict=True) if r == k) for k in chosen)
                for chosen in product(range(n_ranks), repeat=len(costs))
            )
            load = [0.0] * n_ranks
            for cost, (rank,) in zip(costs, owners, strict=True):
                load[rank] += cost
            assert max(load) <= best * (4 / 3 - 1 / (3 * n_ranks)) * (1 + 1e-12)


def test_a_head_has_about_as_many_ranks_as_its_part_of_the_cost():
    for costs in cost_sets():
        for n_ranks in range(1, 65):
            for cost, ranks in zip(costs, place_heads(costs, n_ranks), strict=True):
                share = cost * n_ranks / math.fsum(costs)
                assert math.floor(0.96 * share) <= len(ranks) <= math.ceil(share) + 1


@pytest.mark.parametrize("method", METHODS)
def test_placement_is_a_pure_function_of_the_ratios(method):
    for costs in cost_sets():
        for n_ranks in (1, 2, 5, 16, 63):
            given = list(costs)
            owners = place_heads(given, n_ranks, method=method)
            assert given == costs
            assert place_heads(tuple(costs), n_ranks, method=method) == owners
            assert place_heads([2.0**-20 * c for c in costs], n_ranks, method=method) == owners


def test_the_order_of_heads_changes_where_whole_ranks_are_and_not_how_many():
    chance = random.Random(11)
    for costs in cost_sets():
        if len(set(costs)) < len(costs):
            continue  # of equal ones the first has the odd rank
        order = chance.sample(range(len(costs)), len(costs))
        for n_ranks in range(len(costs), 65):
            before = place_heads(costs, n_ranks, method="whole-ranks")
            after = place_heads([costs[i] for i in order], n_ranks, method="whole-ranks")
            assert [len(before[i]) for i in order] == [len(ranks) for ranks in after]


def test_the_order_of_heads_never_unbalances_wrap_around():
    chance = random.Random(12)
    for n_ranks in (2, 3, 7, 16, 64):
        for _ in range(40):
            costs = chance.sample(SIXTEEN_SOURCES, 16)
            assert max(ideal_load(costs, place_heads(costs, n_ranks), n_ranks)) <= 1.03


def test_sixteen_skewed_sources():
    total = sum(SIXTEEN_SOURCES)
    for n_ranks in (16, 17, 20, 64, 1280, 16384):
        owners = place_heads(SIXTEEN_SOURCES, n_ranks, method="whole-ranks")
        counts = [len(ranks) for ranks in owners]
        assert min(counts) >= 1
        assert sum(counts) == n_ranks
        largest = max(c / n for c, n in zip(SIXTEEN_SOURCES, counts, strict=True))
        rounded_up = [math.ceil(c / largest * (1 - 1e-12)) for c in SIXTEEN_SOURCES]
        assert all(n >= least for n, least in zip(counts, rounded_up, strict=True))
        load = ideal_load(SIXTEEN_SOURCES, place_heads(SIXTEEN_SOURCES, n_ranks), n_ranks)
        assert max(load) <= 1.03
        assert math.fsum(load) * total / n_ranks == pytest.approx(total)


@pytest.mark.parametrize("method", METHODS)
def test_ten_thousands_of_ranks(method):
    owners = place_heads(SIXTEEN_SOURCES, 40_000, method=method)
    covered = np.zeros(40_000, dtype=int)
    for ranks in owners:
        assert list(ranks) == list(range(ranks[0], ranks[-1] + 1))
        covered[list(ranks)] += 1
    assert covered.min() == 1
    assert covered.sum() <= 40_000 + 15


def spread_sets(n_sets: int = 40) -> Iterator[tuple[list[float], list[float]]]:
    """Costs of heads, and by how much they may differ."""
    chance = random.Random(21)
    for costs in cost_sets(n_sets):
        yield costs, [chance.choice([0.0, 0.05, 0.4]) * cost for cost in costs]


def test_heads_that_spill_over_own_what_they_did_and_more():
    grown = 0
    for costs, spreads in spread_sets():
        for n_ranks in (1, 2, 5, 16, 63):
            narrow = place_heads(costs, n_ranks)
            assert place_heads(costs, n_ranks, spreads=[0.0] * len(costs)) == narrow
            wide = place_heads(costs, n_ranks, spreads=spreads)
            for few, many in zip(narrow, wide, strict=True):
                assert list(many) == list(range(many[0], many[-1] + 1))
                # A sliver may fall away that was kept for want of anything larger.
                assert len(few) == 1 or set(few) <= set(many)
                grown += len(many) - len(few)
            for before, after in pairwise(wide):
                assert before[0] <= after[0]
                assert before[-1] <= after[-1]
    assert grown > 0


def test_spilling_over_holds_what_steps_differ_by():
    """Ends of heads, drawn with these spreads, stay within two of them in 19 of 20 steps."""
    chance = np.random.default_rng(4)
    costs, n_ranks = np.array([40.0, 100.0, 10.0, 60.0, 90.0]), 64
    spreads = np.array([4.0, 9.0, 3.0, 0.0, 12.0])
    owners = place_heads(costs.tolist(), n_ranks, spreads=(2 * spreads).tolist())
    drawn = costs + spreads * chance.standard_normal((4000, 5))
    ends = np.cumsum(drawn, axis=1) / drawn.sum(1, keepdims=True) * n_ranks
    for before, after, end in zip(owners, owners[1:], ends.T, strict=False):
        inside = (after[0] <= end) & (end <= before[-1] + 1)
        assert inside.mean() > 0.945
    assert sum(map(len, owners)) < 2 * n_ranks


def test_other_methods_do_not_spill_over():
    for costs, spreads in spread_sets(10):
        for n_ranks in (2, 7, 30):
            for method in ("whole-ranks", "everywhere"):
                narrow = place_heads(costs, n_ranks, method=method)
                assert place_heads(costs, n_ranks, method=method, spreads=spreads) == narrow


@pytest.mark.parametrize(
    ("costs", "n_ranks", "method", "message"),
    [
        ([], 2, "wrap-around", r"at least one rank, got costs \[\] and 2 ranks"),
        ([1.0], 0, "wrap-around", r"got costs \[1.0\] and 0 ranks"),
        ([1.0, 0.0], 2, "whole-ranks", r"positive costs .* got costs \[1.0, 0.0\]"),
        ([1.0], 1, "random", "must be wrap-around, whole-ranks or everywhere, got 'random'"),
    ],
)
def test_impossible_placements_are_errors(costs, n_ranks, method, message):
    with pytest.raises(ValueError, match=message):
        place_heads(costs, n_ranks, method=method)
