"""Batches made ahead are those made in time, and nothing is left behind."""

import threading
import time

import pytest
import torch
from gfm_pretrain.data import prefetch as module
from gfm_pretrain.data.feed import Batch, Feed
from gfm_pretrain.data.prefetch import Prefetch, passes_ahead
from test_feed import feed


def of_step(supply: Feed | Prefetch, step: int) -> list[Batch]:
    work = supply.work(step)
    assert work.step == step
    batches = list(supply.batches(work))
    assert [b.taken.places.tolist() for b in batches] == [p.places.tolist() for p in work.passes]
    return batches


def check_equal(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.taken.places.tolist() == other.taken.places.tolist()
        assert one.taken.last == other.taken.last
        assert one.taken.last_of_head == other.taken.last_of_head
        assert torch.equal(one.graph.positions, other.graph.positions)
        assert torch.equal(one.graph.edge_index, other.graph.edge_index)
        assert one.labels.forces.numpy().tobytes() == other.labels.forces.numpy().tobytes()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.fixture(autouse=True)
def _nothing_stays():
    yield
    assert not threads()


@pytest.mark.parametrize("ahead", [1, 2, 7])
@pytest.mark.parametrize("rank", range(5))
def test_steps_are_those_of_the_feed(ahead, rank):
    """Ranks of which some have nothing to do in some steps."""
    plain = feed(rank, 5)
    with Prefetch(feed(rank, 5), ahead=ahead) as supply:
        for step in range(12):
            check_equal(of_step(supply, step), of_step(plain, step))


def test_any_step_can_be_asked_for():
    plain = feed(0, 2)
    with Prefetch(feed(0, 2), ahead=3) as supply:
        for step in (4, 5, 0, 0, 9, 10, 3):
            check_equal(of_step(supply, step), of_step(plain, step))
        assert len(threads()) == 1


def test_a_step_that_was_left_in_the_middle_is_begun_anew():
    plain = feed(0, 2)
    with Prefetch(feed(0, 2), ahead=2) as supply:
        next(supply.batches(supply.work(3)))
        check_equal(of_step(supply, 3), of_step(plain, 3))
        next(supply.batches(supply.work(4)))
        check_equal(of_step(supply, 5), of_step(plain, 5))


def test_work_of_another_origin_is_done_in_time():
    other = feed(0, 2).work(6)
    with Prefetch(feed(0, 2), ahead=2) as supply:
        work = supply.work(1)
        check_equal(list(supply.batches(other)), of_step(feed(0, 2), 6))
        check_equal(list(supply.batches(work)), of_step(feed(0, 2), 1))


class Counting(Feed):
    """Notes how many batches it has made, and fails in one step."""

    made = 0
    fails_in = 10**9

    def batches(self, work):
        for batch in super().batches(work):
            if work.step == self.fails_in:
                raise ValueError("the file is broken")
            self.made += 1
            yield batch


def counting(*, fails_in: int = 10**9) -> Counting:
    own = feed(0, 2)
    own.__class__ = Counting
    assert isinstance(own, Counting)
    own.fails_in = fails_in
    return own


def settled(own: Counting) -> int:
    """Batches that were made when no more come."""
    before = -1
    while before != own.made:
        before = own.made
        time.sleep(0.2)
    return own.made


@pytest.mark.parametrize("ahead", [1, 3])
def test_no_more_is_made_ahead_than_asked_for(ahead):
    own = counting()
    with Prefetch(own, ahead=ahead) as supply:
        work = supply.work(0)
        assert settled(own) == ahead
        next(supply.batches(work))
        assert settled(own) == ahead + 1


def test_an_error_is_raised_where_its_batch_is_asked_for():
    own = counting(fails_in=2)
    with Prefetch(own, ahead=50) as supply:
        for step in (0, 1):
            of_step(supply, step)
        with pytest.raises(ValueError, match="the file is broken") as caught:
            of_step(supply, 2)
    assert any(entry.name == "batches" for entry in caught.traceback)


def test_an_error_outside_ends_the_thread():
    supply = Prefetch(feed(0, 2), ahead=1)
    supply.work(0)
    assert threads()
    with pytest.raises(KeyError), supply:
        raise KeyError


def test_a_thread_that_hangs_is_left_behind(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    own, release = feed(0, 2), threading.Event()
    monkeypatch.setattr(own, "work", lambda step: release.wait(60))
    supply = module._Stream(own, 0, 1)
    supply.close()
    assert len(threads()) == 1
    release.set()
    supply._thread.join(60)


def test_passes_ahead():
    assert passes_ahead(3, torch.device("cpu")) == 3
    assert passes_ahead("auto", torch.device("cpu")) == 0
    assert passes_ahead("auto", torch.device("cuda")) == 2
    assert passes_ahead(0, torch.device("cuda")) == 0


def test_the_thread_computes_with_as_many_threads_as_the_rank():
    """torch counts threads by thread; vesin asks torch."""
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(1)
    own = feed(0, 2)
    inner = own.work
    own.work = lambda step: seen.append(torch.get_num_threads()) or inner(step)
    try:
        with Prefetch(own, ahead=1) as supply:
            supply.work(0)
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}
