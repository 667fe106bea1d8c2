import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from gfm_pretrain import run_lock
from gfm_pretrain.run_lock import RunLock

HOLD = """
import sys, time
from pathlib import Path
from gfm_pretrain.run_lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(300)
"""


def test_a_second_run_is_told_who_has_the_folder(tmp_path):
    said = (
        rf"is in use by process {os.getpid()} on .+ since 2.*; wait until it has ended, or choose"
    )
    with RunLock(tmp_path), pytest.raises(ValueError, match=said):
        RunLock(tmp_path)
    RunLock(tmp_path).__exit__(None, None, None)


def test_the_refused_one_does_not_sign(tmp_path):
    with RunLock(tmp_path) as lock:
        with pytest.raises(ValueError, match="in use"):
            RunLock(tmp_path)
        lock.check()


def test_a_killed_process_locks_nothing(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"in use by process {holder.pid} on"):
            RunLock(tmp_path)
        holder.send_signal(signal.SIGKILL)
    assert (tmp_path / "lock").read_text()
    with RunLock(tmp_path) as lock:
        lock.check()


def without_locks(monkeypatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(run_lock.fcntl, "flock", flock)


def test_where_there_are_no_locks_the_first_run_finds_that_it_was_taken_over(tmp_path, monkeypatch):
    without_locks(monkeypatch)
    with RunLock(tmp_path) as first:
        assert not first.works
        first.check()
        with RunLock(tmp_path) as second:
            second.check()
            said = rf"was taken over by process {os.getpid()} on .+ since 2"
            with pytest.raises(OSError, match=said):
                first.check()


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"host": "x"})])
def test_a_file_that_says_nothing_locks_nothing(tmp_path, text):
    (tmp_path / "lock").write_text(text)
    with RunLock(tmp_path) as lock:
        assert lock.works
        lock.check()


def test_a_folder_that_was_removed_is_noticed(tmp_path):
    with RunLock(tmp_path) as lock:
        Path(tmp_path / "lock").unlink()
        with pytest.raises(OSError, match="was taken over by another run"):
            lock.check()
