"""Memory that is kept between calls, and how not to."""

import platform
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
