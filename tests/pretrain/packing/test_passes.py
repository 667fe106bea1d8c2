import numpy as np
import pytest
from gfm_pretrain.packing.passes import count_passes, split_by_size


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


def test_passes_of_all_ranks_are_counted_as_each_would_cut_them():
    chance = np.random.default_rng(12)
    for _ in range(200):
        n_items, n_ranks = int(chance.integers(0, 60)), int(chance.integers(1, 9))
        sizes = chance.choice([0, 1, 7, 30, 500], n_items)
        ranks = chance.integers(0, n_ranks, n_items)
        limit = int(chance.integers(1, 120))
        found = count_passes(sizes, ranks, n_ranks=n_ranks, limit=limit)
        assert found.tolist() == [
            len(split_by_size(sizes[ranks == rank], limit)) for rank in range(n_ranks)
        ]
