"""A run's own resume state: written whole or not at all, verified before it is trusted.

    snapshots/step-00000500/backbone.safetensors   heads/<name>.safetensors   snapshot.json

One file for each part of the model, holding weights, averaged weights and optimiser moments, so
that any number of ranks can read it: a rank reads the parts it owns.
"""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from gfm_models.checkpoint import BACKBONE_FILE, file_sha256, head_file
from safetensors.torch import load_file, save_file
from torch import Tensor

from gfm_pretrain.durable import UNFINISHED, flush, publish_folder, read_sealed, write_sealed
from gfm_pretrain.process import World, barrier, gather_objects
from gfm_pretrain.reduction.shards import divided_like

FOLDER = "snapshots"
MANIFEST = "snapshot.json"

State = Mapping[str, Mapping[str, Tensor]]
"""By part (`backbone` or a head's name), then by tensor name."""


def write_snapshot(
    run: Path, step: int, *, parts: State, facts: Mapping[str, Any], world: World, keep: int
) -> Path:
    """Write each part on the rank that passes it, then make the snapshot visible at once.

    Call on every rank; no part may be passed by two ranks.

    Args:
        run: Folder of the run, seen by all ranks.
        step: Steps that were done.
        parts: What this rank writes.
        facts: Plain values that belong to the state, the same on every rank.
        world: All ranks.
        keep: How many of the newest snapshots stay.
    """
    final = run / FOLDER / f"step-{step:08d}"
    unfinished = final.with_suffix(UNFINISHED)
    if world.rank == 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        (unfinished / "heads").mkdir(parents=True)
    barrier(world)
    written = {part_file(part): _save(unfinished, part, state) for part, state in parts.items()}
    files = {name: sha for found in gather_objects(world, written) for name, sha in found.items()}
    if world.rank == 0:
        write_sealed(unfinished / MANIFEST, {"step": step, "files": files, **facts})
        publish_folder(unfinished, final)
        _remove_others(final, keep)
    barrier(world)
    return final


def newest_snapshot(run: Path) -> tuple[Path, dict[str, Any]] | None:
    """The snapshot with most steps whose files verify, and its manifest; None where there is none.

    Damaged ones are passed over.
    """
    folders = sorted((run / FOLDER).glob("step-????????"), reverse=True)
    for folder in folders:
        manifest = _read_manifest(folder)
        if manifest is not None and _verifies(folder, manifest["files"]):
            return folder, manifest
    return None


def read_parts(folder: Path, parts: Iterable[str]) -> dict[str, dict[str, Tensor]]:
    """The state of the named parts."""
    return {part: load_file(folder / part_file(part)) for part in parts}


def part_file(part: str) -> str:
    """Where a part lies inside a snapshot: as in a checkpoint."""
    return BACKBONE_FILE if part == "backbone" else head_file(part.removeprefix("heads/"))


def _save(folder: Path, part: str, state: Mapping[str, Tensor]) -> str:
    path = folder / part_file(part)
    save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, path)
    flush(path)
    return file_sha256(path)


def _remove_others(newest: Path, keep: int) -> None:
    """Keep `newest` and those before it; any of a later step is one that did not verify."""
    folders = sorted(newest.parent.glob("step-*"), reverse=True)
    kept = [f for f in folders if f.name <= newest.name and not f.suffix][:keep]
    for folder in folders:
        if folder not in kept:
            shutil.rmtree(folder)


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    try:
        return read_sealed(folder / MANIFEST)
    except (OSError, ValueError):
        return None


def _verifies(folder: Path, files: Mapping[str, str]) -> bool:
    return all(
        (folder / name).is_file() and file_sha256(folder / name) == sha
        for name, sha in files.items()
    )


def optimizer_state(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The moments of named weights, as `moment/name`; zeros before the first step."""
    state: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        of_parameter = optimizer.state.get(parameter, {})
        for moment in ("exp_avg", "exp_avg_sq"):
            state[f"{moment}/{name}"] = of_parameter.get(moment, torch.zeros_like(parameter))
        state[f"step/{name}"] = of_parameter.get("step", torch.zeros(()))
    return state


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
) -> None:
    """Put back what `optimizer_state` gave."""
    for name, parameter in parameters.items():
        optimizer.state[parameter] = {
            moment: divided_like(parameter, state[f"{moment}/{name}"])
            for moment in ("exp_avg", "exp_avg_sq")
        } | {"step": state[f"step/{name}"]}
