"""Splits by group: whole, deterministic, with the memory of a few bytes for each structure."""

import tracemalloc

import numpy as np
import pytest
from gfm_pretrain.data.store.splits import (
    LEFT_OUT,
    NONE,
    TEST,
    TRAIN,
    VALID,
    Fractions,
    assign_splits,
    find_leaks,
    hash_of,
    is_among,
)


def groups_of(sizes: list[int]) -> np.ndarray:
    names = np.array([hash_of(f"group {i}") for i in range(len(sizes))], dtype=np.uint64)
    return np.repeat(names, sizes)


def assign(groups: np.ndarray, *, must_train: np.ndarray | None = None, **fractions) -> np.ndarray:
    return assign_splits(
        np.full(len(groups), NONE, dtype=np.uint8),
        groups,
        fractions=Fractions(**fractions),
        must_train=np.zeros(len(groups), dtype=np.bool_) if must_train is None else must_train,
    )


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_whole_and_fill_the_fractions(seed):
    sizes = np.random.default_rng(seed).integers(1, 40, 300).tolist()
    groups = groups_of(sizes)
    splits = assign(groups, valid=0.1, test=0.2, seed=seed)
    for group in np.unique(groups):
        assert len(np.unique(splits[groups == group])) == 1
    parts = np.bincount(splits, minlength=3) / len(groups)
    assert parts == pytest.approx([0.7, 0.1, 0.2], abs=0.01)


def test_the_order_of_the_data_does_not_matter_and_the_seed_does():
    groups = groups_of([3] * 200)
    order = np.random.default_rng(0).permutation(len(groups))
    splits = assign(groups)
    assert np.array_equal(assign(groups[order]), splits[order])
    assert not np.array_equal(assign(groups, seed=1), splits)


def test_a_large_group_is_passed_over():
    groups = groups_of([900, *[10] * 10])
    for seed in range(8):
        splits = assign(groups, valid=0.05, test=0.02, seed=seed)
        assert (splits[:900] == TRAIN).all()
        assert np.bincount(splits).tolist() == [930, 50, 20]


def test_what_must_train_trains_with_its_group():
    groups = groups_of([5] * 20)
    must_train = np.zeros(100, dtype=np.bool_)
    must_train[::10] = True
    splits = assign(groups, must_train=must_train, valid=0.25, test=0.25)
    assert (splits[np.isin(groups, groups[must_train])] == TRAIN).all()
    assert np.count_nonzero(splits == VALID) == 25


def test_published_splits_stay_and_what_is_left_out_is_left_out():
    published = np.array([TRAIN, VALID, TEST, LEFT_OUT, *[NONE] * 40], dtype=np.uint8)
    groups = groups_of([1] * 44)
    nothing = np.zeros(44, dtype=np.bool_)
    splits = assign_splits(published, groups, fractions=Fractions(), must_train=nothing)
    assert np.array_equal(splits[:4], published[:4])
    assert np.bincount(splits[4:], minlength=3).tolist() == [36, 2, 2]


@pytest.mark.parametrize("sizes", [[10], [10, 10]])
def test_too_few_groups_are_said(sizes):
    with pytest.raises(ValueError, match=r"too few to set some\s+aside.*--valid-fraction 0"):
        assign(groups_of(sizes))
    assert (assign(groups_of(sizes), valid=0, test=0) == TRAIN).all()


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"valid": -0.1}, "valid_fraction must lie in 0 to 1"),
        ({"test": 1.0}, "test_fraction must lie in 0 to 1"),
        ({"valid": 0.5, "test": 0.5}, "must leave something to train on"),
    ],
)
def test_wrong_fractions_are_named(fractions, message):
    with pytest.raises(ValueError, match=message):
        Fractions(**fractions)


@pytest.mark.parametrize("seed", range(20))
def test_leaks_are_those_of_the_definition(seed):
    generator = np.random.default_rng(seed)
    groups = generator.integers(0, 25, 60).astype(np.uint64)
    published = generator.integers(0, 5, 60).astype(np.uint8)
    expected = [
        (split == TRAIN and any(published[groups == group] == VALID))
        or (split in (TRAIN, VALID) and any(published[groups == group] == TEST))
        for split, group in zip(published, groups, strict=True)
    ]
    assert find_leaks(published, groups).tolist() == expected


@pytest.mark.parametrize("n_chosen", [0, 1, 30])
def test_membership_is_that_of_numpy(n_chosen):
    generator = np.random.default_rng(n_chosen)
    values = generator.integers(0, 50, 1000).astype(np.uint64)
    chosen = generator.integers(0, 50, n_chosen).astype(np.uint64)
    before = chosen.copy()
    assert np.array_equal(is_among(values, chosen), np.isin(values, chosen))
    assert np.array_equal(chosen, before)


def test_memory_is_a_few_bytes_for_each_structure():
    n = 1_000_000
    groups = np.random.default_rng(0).integers(0, 1000, n).astype(np.uint64)
    published = np.full(n, NONE, dtype=np.uint8)
    nothing = np.zeros(n, dtype=np.bool_)
    tracemalloc.start()
    assign_splits(published, groups, fractions=Fractions(), must_train=nothing)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * n


def test_a_hash_is_the_same_in_every_process():
    assert hash_of("mp-1000") == 18388874497595675845
