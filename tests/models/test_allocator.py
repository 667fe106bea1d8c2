"""Memory that is kept between calls, and how not to."""

import os
import platform
import subprocess
import sys

import pytest
from gfm_models.allocator import OPT_OUT, keep_freed_memory

GLIBC = sys.platform == "linux" and platform.libc_ver()[0] == "glibc"


@pytest.fixture(autouse=True)
def asked_anew() -> None:
    keep_freed_memory.cache_clear()


def test_it_is_kept_where_the_c_library_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OPT_OUT, raising=False)
    assert keep_freed_memory() == GLIBC


def test_the_environment_forbids_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OPT_OUT, "system")
    assert not keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OPT_OUT, raising=False)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()


def test_a_slip_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OPT_OUT, "keep it")
    with pytest.raises(ValueError, match="GFM_ALLOCATOR must be keep or system, got 'keep it'"):
        keep_freed_memory()


@pytest.mark.skipif(not GLIBC, reason="the GNU C library alone can be told")
def test_large_tensors_take_what_was_kept_unless_the_environment_forbids_it() -> None:
    assert 0 < 2 * faults("keep") < faults("system")


PROGRAM = """
import resource, torch
from gfm_models.allocator import reusing_memory

for _ in range(10):
    with reusing_memory():
        tensors = [torch.ones(2**24, dtype=torch.int32) for _ in range(3)]
        del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def faults(choice: str) -> int:
    """Fresh pages that the system gave a program with tensors of 64 MB each."""
    command = [sys.executable, "-c", PROGRAM]
    environ = {**os.environ, OPT_OUT: choice}
    done = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
    return int(done.stdout)
