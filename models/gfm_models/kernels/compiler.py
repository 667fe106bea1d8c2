"""C becomes a shared library: built once with the machine's own compiler, kept for next time."""

import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

FLAGS = (
    *("-std=c11", "-O2", "-shared", "-fPIC", "-pthread"),
    # Sums keep their order, and denormals their value: none of this is -ffast-math, which would
    # also switch the whole process to flushing denormals to zero where gcc is older than 13.
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
)
FOR_THIS_PROCESSOR = (("-march=native",), ("-mcpu=native",), ())
"""The first that the compiler takes; gcc and clang differ by processor."""

COMPILERS = ("cc", "gcc", "clang")
PATIENCE = 300.0
"""Seconds to wait for the compiler."""
LOCK_PATIENCE = 300.0
"""Seconds to wait for another process that builds the same."""

CPU_FILE = Path("/proc/cpuinfo")
CPU_FIELDS = ("model name", "flags", "CPU implementer", "CPU part", "Features")


class BuildError(RuntimeError):
    """A library cannot be built or loaded here; says why, and the way out."""


def build_library(name: str, files: Mapping[str, str], *, defines: Mapping[str, str]) -> Path:
    """Path of the library made of these files, built if it is not there.

    Processes that ask for the same at once build it once. Its file name depends on the sources, the
    compiler and the processor, so that machines of different kinds can share a home folder.

    Args:
        name: For people who look into the folder.
        files: Text by file name; those that end in `.c` are compiled.
        defines: Macros.

    Raises:
        BuildError: no compiler, or it failed.
    """
    compiler = _find_compiler()
    options = [*FLAGS, *(f"-D{macro}={value}" for macro, value in defines.items())]
    library = f"{name}-{_fingerprint(files, options, compiler)}.so"
    folder = cache_folder()
    if folder is not None and (folder / library).exists():
        return folder / library
    folder = writable(folder)
    with _lock(folder / f"{library}.lock"):
        if not (folder / library).exists():
            _compile(compiler, options, files, target=folder / library)
    return folder / library


def cache_folder() -> Path | None:
    """Where libraries are kept: the user's cache folder; None where there is no home."""
    try:
        base = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    except RuntimeError:
        base = None
    base = Path(os.environ["XDG_CACHE_HOME"]) if os.environ.get("XDG_CACHE_HOME") else base
    return None if base is None else base / "gfmcalc" / "kernels"


def writable(folder: Path | None) -> Path:
    """The folder, or one of this process alone where it cannot be written to."""
    try:
        if folder is None:
            raise FileNotFoundError("there is no home folder")
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        warnings.warn(
            f"compiled kernels cannot be kept in {folder} ({error}), so that every process "
            "builds them anew; set XDG_CACHE_HOME to a folder that can be written to",
            stacklevel=2,
        )
        return Path(_folder_of_this_process().name)
    return folder


@functools.cache
def _folder_of_this_process() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="gfmcalc-kernels-")


def _find_compiler() -> list[str]:
    if sys.platform == "win32":
        raise BuildError("fused kernels are built on Linux and macOS alone")
    words = shlex.split(os.environ.get("CC", ""))
    candidates = [words] if words else [[name] for name in COMPILERS]
    for candidate in candidates:
        found = shutil.which(candidate[0])
        if found:
            return [found, *candidate[1:]]
    looked_for = " or ".join(candidate[0] for candidate in candidates)
    raise BuildError(
        f"found no C compiler ({looked_for}); install gcc or clang (`apt install gcc`, "
        "`conda install -c conda-forge gcc`, `xcode-select --install`) or set CC to one"
    )


def _fingerprint(files: Mapping[str, str], options: list[str], compiler: list[str]) -> str:
    binary = Path(compiler[0]).resolve()
    about = binary.stat()
    parts = [
        *(f"{name}\0{text}" for name, text in sorted(files.items())),
        *options,
        *(str(binary), *compiler[1:], str(about.st_size), str(about.st_mtime_ns)),
        *(platform.system(), platform.machine(), _processor()),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _processor() -> str:
    """What decides which instructions -march=native stands for."""
    if not CPU_FILE.exists():
        return platform.processor()
    first = CPU_FILE.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    return "\n".join(line for line in first if line.partition("\t")[0].strip() in CPU_FIELDS)


def _compile(
    compiler: list[str], options: list[str], files: Mapping[str, str], *, target: Path
) -> None:
    """Build beside the target and rename: nobody ever sees half a library."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="build-") as scratch:
        for name, text in files.items():
            Path(scratch, name).write_text(text, encoding="utf-8")
        sources = [name for name in files if name.endswith(".c")]
        said = ""
        for native in FOR_THIS_PROCESSOR:
            command = [*compiler, *options, *native, *sources, "-o", "library.so"]
            said = _run(command, folder=scratch)
            if Path(scratch, "library.so").exists():
                Path(scratch, "library.so").replace(target)
                return
    raise BuildError(f"the C compiler {compiler[0]} failed: {said[-500:]}")


def _run(command: list[str], *, folder: str) -> str:
    """What the command said, if it failed."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.strip() or f"exit status {done.returncode}"


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a lock that ends with the process.

    Where the file system has no locks, or its holder hangs, go on: building twice does no harm.
    """
    import fcntl

    with path.open("w") as file:
        deadline = time.monotonic() + LOCK_PATIENCE
        while time.monotonic() < deadline:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                break
        yield
