"""The checkpoint of a run: the averaged weights, written by the ranks that own them."""

import shutil
from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gfm_models.backbone import Backbone
from gfm_models.checkpoint import RUN_CHECKPOINT, write_backbone, write_config, write_head

from gfm_pretrain.configuration import to_mapping
from gfm_pretrain.durable import UNFINISHED, flush, publish_folder
from gfm_pretrain.evaluate import Metrics
from gfm_pretrain.process import barrier
from gfm_pretrain.reduction.shards import copy_whole, whole
from gfm_pretrain.trainer import Trainer

Errors = Mapping[str, Mapping[str, Metrics]]
"""By name of the evaluation (`test`, `test_before`, …), then by head."""


def write_checkpoint(trainer: Trainer, run: Path, errors: Errors) -> Path:
    """Write the run's checkpoint, whole or not at all. Call on every rank.

    Args:
        trainer: The run; its averaged weights are what is written.
        run: Folder of the run, seen by all ranks.
        errors: What is known of every head.
    """
    final, unfinished = run / RUN_CHECKPOINT, run / f"{RUN_CHECKPOINT}{UNFINISHED}"
    rank, potential = trainer.world.rank, trainer.potential
    if rank == 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    barrier(trainer.world)
    with trainer.weights.average.average_parameters():
        backbone = _undivided(potential.backbone)
        if rank == 0:
            flush(write_backbone(backbone, unfinished))
        for name in potential.head_names:
            if trainer.setup.owners[name][0] == rank:
                flush(write_head(potential.head(name), name, unfinished))
    barrier(trainer.world)
    if rank == 0:
        write_config(
            unfinished,
            backbone=potential.backbone.config,
            heads={name: s.config for name, s in trainer.setup.summaries.items()},
            training=training_facts(trainer, errors, list(trainer.setup.summaries)),
        )
        for path in unfinished.glob("*.json"):
            flush(path)
        publish_folder(unfinished, final)
    barrier(trainer.world)
    return final


def _undivided(backbone: Backbone) -> Backbone:
    """A copy whose weights are whole. Call on every rank."""
    copied = Backbone(backbone.config, dtype=backbone.dtype)
    for target, source in zip(copied.parameters(), backbone.parameters(), strict=True):
        copy_whole(target, whole(source))
    return copied


def training_facts(trainer: Trainer, errors: Errors, heads: Collection[str]) -> dict[str, Any]:
    """How the weights came about: what goes into `training.json`.

    Args:
        trainer: The run as it is now.
        errors: What is known of the heads.
        heads: Names of those that are written.
    """
    return {
        "code_version": version("gfmcalc"),
        "n_ranks": trainer.world.size,
        "device": trainer.world.device.type,
        "seed": trainer.config.seed,
        "steps": trainer.step,
        "wall_seconds": round(trainer.seconds, 1),
        "config": to_mapping(trainer.config),
        "heads": {
            name: {
                **{f"n_{split}": len(index) for split, index in summary.indices.items()},
                "data": dict(summary.files),
                **{kind: of_heads[name] for kind, of_heads in errors.items() if name in of_heads},
                "baseline": summary.baseline,
            }
            for name, summary in trainer.setup.summaries.items()
            if name in heads
        },
    }
