"""In one process; several ranks are in test_resume.py."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from gfm_pretrain.snapshots.background import Background, Job, Notes, WritingError
from snapshots.written import ALONE


@contextmanager
def background() -> Iterator[Background]:
    found = Background(ALONE)
    try:
        yield found
    finally:
        found.close()


class Recorder:
    """A job that waits for a word, and says what it did."""

    def __init__(self) -> None:
        self.may_write = threading.Event()
        self.done: list[Any] = []

    def write(self) -> Notes:
        assert self.may_write.wait(60)
        self.done.append(threading.current_thread().name)
        return {"file": "sum"}

    def commit(self, notes: Notes) -> None:
        self.done.append(dict(notes))

    @property
    def job(self) -> Job:
        return Job(name="the snapshot of step 7", write=self.write, commit=self.commit)


def test_the_training_does_not_wait():
    recorder = Recorder()
    with background() as found:
        found.start(recorder.job)
        assert found.is_busy
        assert not found.is_ready
        assert recorder.done == []
        recorder.may_write.set()
        found.finish()
        assert not found.is_busy
        assert recorder.done == ["snapshot_0", {"file": "sum"}]
        found.finish()


def test_the_next_one_waits():
    first, second = Recorder(), Recorder()
    second.may_write.set()
    with background() as found:
        found.start(first.job)
        threading.Timer(0.3, first.may_write.set).start()
        found.start(second.job)
        assert len(first.done) == 2
        found.finish()
        assert len(second.done) == 2


@pytest.mark.parametrize("where", ["write", "commit"])
@pytest.mark.parametrize("then", ["finish", "start"])
def test_what_goes_wrong_is_said_where_the_training_is(where, then):
    recorder = Recorder()
    recorder.may_write.set()

    def full_disk(*_: object) -> Notes:
        raise OSError(28, "No space left on device")

    job = replace(recorder.job, **{where: full_disk})
    with background() as found:
        found.start(job)
        said = r"snapshot of step 7 could not be written: \[Errno 28\] No space left.*; what was"
        with pytest.raises(WritingError, match=said):
            found.finish() if then == "finish" else found.start(recorder.job)
        assert not found.is_busy
        found.start(recorder.job)
        found.finish()
        assert recorder.done[-1] == {"file": "sum"}


def test_a_mistake_of_ours_keeps_its_traceback():
    def mistaken() -> Notes:
        raise KeyError("x")

    with background() as found:
        found.start(Job(name="x", write=mistaken, commit=lambda _: None))
        with pytest.raises(KeyError, match="x"):
            found.finish()
