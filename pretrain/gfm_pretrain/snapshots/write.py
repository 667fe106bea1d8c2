"""One snapshot, written whole or not at all."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gfm_models.checkpoint import file_sha256
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from gfm_pretrain.durable import UNFINISHED, flush, publish_folder, write_sealed
from gfm_pretrain.snapshots.layout import (
    FORMAT,
    MANIFEST,
    SNAPSHOTS,
    part_file,
    snapshot_steps,
    step_name,
)
from gfm_pretrain.snapshots.options import SnapshotOptions
from gfm_pretrain.snapshots.policy import kept_steps
from gfm_pretrain.snapshots.state import State


def write_parts(run: Path, step: int, parts: State) -> dict[str, str]:
    """Write the parts that this rank has into a folder that does not count yet.

    Returns:
        SHA-256 of each file.
    """
    folder = _unfinished(run, step)
    return {
        part_file(part): save_tensors(folder / part_file(part), state)
        for part, state in parts.items()
    }


def commit_snapshot(
    run: Path,
    step: int,
    *,
    files: Mapping[str, str],
    facts: Mapping[str, Any],
    options: SnapshotOptions,
) -> Path:
    """Make a snapshot whose files are all there visible at once, and remove what is kept no more.

    Args:
        run: Folder of the run.
        step: Steps that were done.
        files: SHA-256 of every file, of all ranks.
        facts: Plain values that belong to the state.
        options: Which snapshots are kept.
    """
    unfinished, final = _unfinished(run, step), run / SNAPSHOTS / step_name(step)
    manifest = {**facts, "format": FORMAT, "step": step, "files": dict(files)}
    write_sealed(unfinished / MANIFEST, manifest)
    publish_folder(unfinished, final)
    _remove_others(run, step, options)
    return final


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a file of tensors and wait until it is on the disk; its SHA-256.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    except SafetensorError as error:  # it wraps what the operating system says
        raise OSError(f"cannot write {path}: {error}") from error
    flush(path)
    return file_sha256(path)


def _unfinished(run: Path, step: int) -> Path:
    return run / SNAPSHOTS / (step_name(step) + UNFINISHED)


def _remove_others(run: Path, newest: int, options: SnapshotOptions) -> None:
    """Keep `newest` and, of those before it, what the options say.

    One of a later step did not verify when the run was continued: it was passed over.
    """
    found = snapshot_steps(run)
    kept = kept_steps((step for step in found if step <= newest), options)
    for step, folder in found.items():
        if step not in kept:
            remove_folder(folder)


def remove_folder(folder: Path) -> None:
    """Remove a snapshot; killed half-way, it is not one that lacks files."""
    leaving = folder.with_name(folder.name + UNFINISHED)
    shutil.rmtree(leaving, ignore_errors=True)
    folder.rename(leaving)
    shutil.rmtree(leaving)
