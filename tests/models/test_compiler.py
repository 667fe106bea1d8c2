"""Libraries from C: built once, kept, and what happens where that cannot be."""

import ctypes
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from gfm_models.kernels import compiler
from gfm_models.kernels.compiler import BuildError, build_library, cache_folder

FILES = {"answer.c": '#include "answer.h"\nint answer(void) { return ANSWER + OFFSET; }\n'}
HEADER = {"answer.h": "#define ANSWER 40\n"}
ASK = """
import sys
from gfm_models.kernels.compiler import build_library
files = {"answer.c": "int answer(void) { return OFFSET; }"}
print(build_library("answer", files, defines={"OFFSET": "2"}))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gfmcalc" / "kernels"


def build(offset: int = 2) -> Path:
    return build_library("answer", FILES | HEADER, defines={"OFFSET": str(offset)})


def answer(library: Path) -> int:
    return ctypes.CDLL(str(library)).answer()


def counting_compiler(folder: Path) -> tuple[Path, Path]:
    """A compiler that takes a while and writes a line to a file each time, and that file."""
    script, log = folder / "slow-cc", folder / "calls"
    script.write_text(f'#!/bin/sh\necho called >> {shlex.quote(str(log))}\nsleep 1\nexec cc "$@"\n')
    script.chmod(0o755)
    return script, log


def test_a_library_is_built_and_kept(cache: Path) -> None:
    library = build()
    assert answer(library) == 42
    assert library.parent == cache
    before = library.stat().st_mtime_ns
    assert build() == library
    assert library.stat().st_mtime_ns == before
    assert not list(cache.glob("build-*"))


def test_what_it_is_made_of_decides_on_its_name() -> None:
    libraries = {build(), build(3)}
    libraries.add(
        build_library(
            "answer", FILES | {"answer.h": "#define ANSWER 50\n"}, defines={"OFFSET": "2"}
        )
    )
    assert sorted(map(answer, libraries)) == [42, 43, 52]


def test_another_processor_builds_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    libraries = set()
    for flags in ("avx2", "avx2 avx512f"):
        cpuinfo = tmp_path / "cpuinfo"
        cpuinfo.write_text(
            f"processor\t: 0\nflags\t\t: {flags}\ncpu MHz\t\t: 2600\n\nflags\t: none\n"
        )
        monkeypatch.setattr(compiler, "CPU_FILE", cpuinfo)
        libraries.add(build())
        cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\ncpu MHz\t\t: 3100\n")
        assert build() in libraries, "the clock of the moment is not the processor"
    assert len(libraries) == 2


def test_processes_that_ask_at_once_build_once(tmp_path: Path) -> None:
    script, log = counting_compiler(tmp_path)
    environ = os.environ | {"CC": str(script), "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ASK], env=environ, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    found = {process.communicate(timeout=300)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(found) == 1
    assert log.read_text() == "called\n"


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        BuildError, match=r"found no C compiler \(cc or gcc or clang\); install gcc"
    ):
        build()


def test_the_compiler_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "missing-cc -m64")
    with pytest.raises(BuildError, match=r"found no C compiler \(missing-cc\)"):
        build()
    monkeypatch.setenv("CC", "cc -DUNUSED=1")
    assert answer(build()) == 42


def test_a_compiler_that_fails(cache: Path) -> None:
    with pytest.raises(BuildError, match=r"the C compiler .* failed: .*answer"):
        build_library("answer", {"answer.c": "int answer(void) { return }"}, defines={})
    assert not list(cache.glob("*.so"))
    assert not list(cache.glob("build-*"))


def test_a_compiler_without_native_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One that knows neither -march=native nor -mcpu=native builds for any processor."""
    script = tmp_path / "plain-cc"
    script.write_text('#!/bin/sh\ncase "$*" in *native*) exit 1;; esac\nexec cc "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    assert answer(build()) == 42


def test_a_cache_that_cannot_be_written_to(cache: Path) -> None:
    """A file stands where the folder should be; root may write to any folder."""
    cache.parent.parent.mkdir()
    cache.parent.write_text("in the way")
    with pytest.warns(UserWarning, match="cannot be kept in .*set XDG_CACHE_HOME to a folder"):
        library = build()
    assert answer(library) == 42
    assert cache not in library.parents


def test_a_kept_library_needs_no_writing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = build()

    def refuse(*_: object) -> None:
        raise AssertionError("written to")

    monkeypatch.setattr(compiler, "writable", refuse)
    assert build() == library


def test_the_cache_is_where_the_system_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == Path("/home/someone/.cache/gfmcalc/kernels")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == Path("/home/someone/Library/Caches/gfmcalc/kernels")


def test_windows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(BuildError, match="on Linux and macOS alone"):
        build()


def test_a_lock_that_cannot_be_had_is_not_waited_for(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems have no locks; others keep that of a machine that died."""
    import fcntl

    def without_locks(*_: object) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", without_locks)
    assert answer(build()) == 42

    def held(*_: object) -> None:
        raise BlockingIOError

    monkeypatch.setattr(fcntl, "flock", held)
    monkeypatch.setattr(compiler, "LOCK_PATIENCE", 0.2)
    assert answer(build(3)) == 43
