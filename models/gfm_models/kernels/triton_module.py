"""Generated Triton code as a Python module: Triton reads the source of a function from its file."""

import functools
import hashlib
import importlib.util
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType

import torch

from gfm_models.kernels.compiler import cache_folder, writable


@functools.cache
def import_source(name: str, source: str) -> ModuleType:
    """The module of this source, kept in the cache folder.

    Args:
        name: For people who look into the folder.
        source: Text of the module.
    """
    unique = f"{name}_{hashlib.sha256(source.encode()).hexdigest()[:20]}"
    folder = cache_folder()
    if folder is None or not _holds(folder / f"{unique}.py", source):
        folder = writable(folder)
        _write(folder / f"{unique}.py", source)
    path = folder / f"{unique}.py"
    spec = importlib.util.spec_from_file_location(unique, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def on_device(device: torch.device) -> AbstractContextManager[object]:
    """Make it the current device: it is there that Triton starts a function."""
    if device.type == "cpu":
        return nullcontext()
    return torch.accelerator.device_index(device.index)


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def _write(path: Path, text: str) -> None:
    """Write beside it and rename: nobody ever reads half a file."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="write-") as scratch:
        written = Path(scratch, path.name)
        written.write_text(text, encoding="utf-8")
        written.replace(path)
