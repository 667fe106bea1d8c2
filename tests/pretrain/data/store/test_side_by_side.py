"""Processes that work side by side end together."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from gfm_pretrain.data.store.side_by_side import run_side_by_side


def leave_a_file(folder: Path, number: int) -> None:
    (folder / str(number)).touch()


def fail_at_one(number: int) -> None:
    if number == 1:
        raise ValueError("one cannot be done")
    time.sleep(600)


def be_killed(number: int) -> None:
    if number == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


def sleep_and_tell(folder: Path, number: int) -> None:
    (folder / f"{number}-{os.getpid()}").touch()
    time.sleep(600)


@pytest.mark.slow
def test_all_shares_are_done(tmp_path):
    run_side_by_side(partial(leave_a_file, tmp_path), 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


@pytest.mark.slow
def test_an_error_of_one_ends_all_and_is_raised():
    with pytest.raises(ValueError, match="one cannot be done"):
        run_side_by_side(fail_at_one, 2)


@pytest.mark.slow
def test_one_that_is_killed_ends_all_and_is_told():
    with pytest.raises(ChildProcessError, match=r"exit status -9.*the same command continues"):
        run_side_by_side(be_killed, 2)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_they_do_not_go_on_when_the_parent_is_killed(tmp_path):
    code = (
        "from functools import partial; from pathlib import Path; import test_side_by_side as t; "
        f"t.run_side_by_side(partial(t.sleep_and_tell, Path({str(tmp_path)!r})), 2)"
    )
    here = str(Path(__file__).parent)
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]),
    }
    parent = subprocess.Popen([sys.executable, "-c", code], env=environ)
    until = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    children = [Path("/proc", path.name.split("-")[1]) for path in tmp_path.iterdir()]
    assert len(children) == 2
    parent.kill()
    parent.wait()
    while any(is_alive(child) for child in children) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(is_alive(child) for child in children)


def is_alive(process: Path) -> bool:
    try:
        return "zombie" not in (process / "status").read_text()
    except OSError:
        return False
