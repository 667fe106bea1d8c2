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
    path = writable(cache_folder()) / f"{unique}.py"
    if not path.exists() or path.read_text(encoding="utf-8") != source:
        _write(path, source)
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


def _write(path: Path, text: str) -> None:
    """Write beside it and rename: nobody ever reads half a file."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="write-") as scratch:
        written = Path(scratch, path.name)
        written.write_text(text, encoding="utf-8")
        written.replace(path)
