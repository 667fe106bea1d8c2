import math
import random
from collections import Counter
from collections.abc import Iterator
from itertools import combinations, pairwise, product

import numpy as np
import pytest
from gfm_pretrain.placement import pack, place_heads, split_by_size

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


def steps(n_steps: int = 60):
    """Costs of a step's structures by head, owners, and the number of ranks."""
    chance = np.random.default_rng(5)
    for _ in range(n_steps):
        n_heads, n_ranks = chance.integers(1, 8), int(chance.integers(1, 20))
        costs = {
            f"head{h}": chance.choice([20.0, 55.0, 55.0, 300.0, 2000.0], chance.integers(1, 30))
            for h in range(n_heads)
        }
        method = METHODS[chance.integers(2)]
        placed = place_heads([c.sum() for c in costs.values()], n_ranks, method=method)
        yield costs, dict(zip(costs, placed, strict=True)), n_ranks


def test_every_structure_is_taken_once_by_an_owner():
    for costs, owners, n_ranks in steps():
        taken = pack(costs, owners, n_ranks)
        assert len(taken) == n_ranks
        for head, of_head in costs.items():
            places = [i for of_rank in taken for i in of_rank.get(head, [])]
            assert sorted(places) == list(range(len(of_head)))
        for rank, of_rank in enumerate(taken):
            assert all(rank in owners[head] for head in of_rank)
            assert all(list(places) == sorted(places) for places in of_rank.values())


def test_packing_is_the_greedy_rule():
    for costs, owners, n_ranks in steps():
        for found, expected in zip(
            pack(costs, owners, n_ranks), greedy(costs, owners, n_ranks), strict=True
        ):
            assert {head: list(places) for head, places in found.items()} == expected


def greedy(costs, owners, n_ranks) -> list[dict[str, list[int]]]:
    """The dearest structure first, to the least loaded owner; the first of equal ones."""
    load, taken = [0.0] * n_ranks, [{} for _ in range(n_ranks)]
    todo = [(-c, h, i) for h, head in enumerate(costs) for i, c in enumerate(costs[head])]
    for negative_cost, h, i in sorted(todo):
        head = list(costs)[h]
        rank = min(owners[head], key=lambda r: (load[r], r))
        load[rank] -= negative_cost
        taken[rank][head] = sorted([*taken[rank].get(head, []), i])
    return taken


def test_packing_is_within_one_structure_of_balance():
    for costs, _, n_ranks in steps():
        owners = {head: tuple(range(n_ranks)) for head in costs}
        load = [
            sum(costs[head][places].sum() for head, places in of_rank.items())
            for of_rank in pack(costs, owners, n_ranks)
        ]
        assert max(load) - min(load) <= max(c.max() for c in costs.values())


def test_splitting_keeps_the_order_and_the_limit():
    chance = np.random.default_rng(11)
    for _ in range(200):
        sizes = chance.integers(0, 50, chance.integers(0, 20))
        limit = int(chance.integers(1, 120))
        parts = [list(range(len(sizes)))[part] for part in split_by_size(sizes, limit)]
        assert [i for part in parts for i in part] == list(range(len(sizes)))
        for part, after in zip(parts, [*parts, []][1:], strict=True):
            assert part
            assert len(part) == 1 or sizes[part].sum() <= limit
            assert not after or sizes[[*part, after[0]]].sum() > limit  # no more parts than needed


@pytest.mark.parametrize(
    ("sizes", "limit", "parts"),
    [
        ([], 10, []),
        ([3, 3, 3], 6, [slice(0, 2), slice(2, 3)]),
        ([99], 6, [slice(0, 1)]),
        ([99, 1, 99], 6, [slice(0, 1), slice(1, 2), slice(2, 3)]),
        ([0, 0], 1, [slice(0, 2)]),
    ],
)
def test_known_splits(sizes, limit, parts):
    assert split_by_size(np.array(sizes, dtype=int), limit) == parts
