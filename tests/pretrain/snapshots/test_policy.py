from dataclasses import replace

import numpy as np
import pytest
from gfm_pretrain.snapshots.options import SnapshotOptions
from gfm_pretrain.snapshots.policy import is_due, kept_steps


def due(step: int, minutes: float, *, last: float = 0.0, **options) -> bool:
    found = SnapshotOptions(**options)
    return is_due(step, 60 * minutes, last_seconds=60 * last, options=found)


def test_due_by_steps():
    assert [s for s in range(1, 10) if due(s, 1e6, every_steps=3)] == [3, 6, 9]


def test_due_by_time():
    options = {"every_steps": None, "every_minutes": 5.0}
    assert not due(7, 14.9, last=10.0, **options)
    assert due(7, 15.0, last=10.0, **options)


def test_due_by_either():
    options = {"every_steps": 4, "every_minutes": 5.0}
    assert due(8, 10.1, last=10.0, **options)
    assert due(9, 15.1, last=10.0, **options)
    assert not due(9, 14.0, last=10.0, **options)


def test_never_due():
    assert not any(due(s, 1e6, every_steps=None) for s in range(1, 10))


def test_the_newest_and_the_milestones_are_kept():
    options = SnapshotOptions(keep_last=2, keep_every_steps=1000)
    assert kept_steps(range(0, 3001, 250), options) == {1000, 2000, 2750, 3000}


def test_a_milestone_that_no_snapshot_hits_is_the_next_one():
    options = SnapshotOptions(keep_last=1, keep_every_steps=1000)
    assert kept_steps([300, 990, 1030, 1400, 1990, 2600, 2700], options) == {1030, 2600, 2700}


@pytest.mark.parametrize("seed", range(50))
def test_what_is_kept(seed):
    """Property: to ask after every snapshot keeps what asking once for all keeps."""
    rng = np.random.default_rng(seed)
    steps = np.cumsum(rng.integers(1, 60, size=40)).tolist()
    every = int(rng.integers(1, 300)) if rng.random() < 0.8 else None
    options = SnapshotOptions(keep_last=int(rng.integers(1, 6)), keep_every_steps=every)
    present: set[int] = set()
    for step in steps:
        present = kept_steps([*present, step], options)
        assert step in present
    assert present == kept_steps(steps, options)
    assert set(steps[-options.keep_last :]) <= present <= set(steps)
    if every is not None:
        crossed = {step // every for step in steps} - {0}
        assert {step // every for step in present} >= crossed
        assert len(present) <= len(crossed) + options.keep_last
    else:
        assert len(present) == options.keep_last


@pytest.mark.parametrize("name", ["every_steps", "every_minutes", "keep_last", "keep_every_steps"])
def test_a_number_that_is_not_positive_is_named(name):
    with pytest.raises(ValueError, match=rf"snapshots\.{name} must be positive, got 0"):
        replace(SnapshotOptions(), **{name: 0})
