"""Heads that leave a run stay as a checkpoint, with the backbone as it was then."""

import shutil
from pathlib import Path
from typing import Any

import torch
from gfm_models.backbone import BackboneConfig
from gfm_models.checkpoint import backbone_config, head_config, save
from gfm_models.potential import MultiHeadPotential, build_potential
from torch import nn

from gfm_pretrain.durable import UNFINISHED, flush, publish_folder
from gfm_pretrain.snapshots.continuation import Continuation
from gfm_pretrain.snapshots.layout import BACKBONE, REMOVED, head_part, step_name
from gfm_pretrain.snapshots.read import Snapshot, read_parts
from gfm_pretrain.snapshots.state import averages_of


def keep_removed(run: Path, continuation: Continuation) -> Path | None:
    """Write the averaged weights of the heads that leave; None if none does, or it was done before.

    Call on rank 0, before snapshots are removed.
    """
    snapshot, heads = continuation.snapshot, continuation.removed
    final = run / REMOVED / step_name(snapshot.step)
    if not heads or final.exists():
        return None
    unfinished = final.with_name(final.name + UNFINISHED)
    shutil.rmtree(unfinished, ignore_errors=True)
    training = {"steps": snapshot.step, "config": snapshot.facts["config"]}
    save(_potential(snapshot, heads), unfinished, training=training)
    for path in unfinished.rglob("*"):
        flush(path)
    publish_folder(unfinished, final)
    return final


def _potential(snapshot: Snapshot, heads: tuple[str, ...]) -> MultiHeadPotential:
    parts = {BACKBONE: BACKBONE} | {head_part(head): head_part(head) for head in heads}
    weights = {part: averages_of(s) for part, s in read_parts(snapshot.folder, parts).items()}
    described: dict[str, Any] = {
        "architecture": snapshot.facts["architecture"],
        "heads": {head: snapshot.facts["heads"][head]["config"] for head in heads},
    }
    architecture: BackboneConfig = backbone_config(described)
    dtype = next(iter(weights[BACKBONE].values())).dtype
    configs = {head: head_config(described, head) for head in heads}
    potential = build_potential(architecture, configs, dtype=dtype)
    _set_weights(potential.backbone, weights[BACKBONE])
    for head in heads:
        _set_weights(potential.head(head), weights[head_part(head)])
    return potential


def _set_weights(module: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    module.load_state_dict(weights)
