"""A run that goes on with another number of ranks, and with its backbone in pieces or whole."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gfm_models import checkpoint
from gfm_pretrain.config import RunConfig
from gfm_pretrain.process import World, barrier, gather_objects
from gfm_pretrain.publish import write_checkpoint
from gfm_pretrain.setup import set_up
from gfm_pretrain.snapshots.options import SnapshotOptions
from gfm_pretrain.snapshots.read import newest_snapshot, read_parts
from gfm_pretrain.snapshots.write import commit_snapshot, write_parts
from gfm_pretrain.trainer import Trainer

N_STEPS = 2
"""Before a run moves on."""

STATIONS: dict[int, dict[str, Any]] = {
    4: {"reduction": "sharded", "shard_ranks": 2},
    3: {"reduction": "overlapped"},
    2: {"reduction": "sharded"},
}
"""Number of ranks, one after the other, and how they sum."""


def go_on(config: RunConfig, world: World, run: Path) -> Trainer:
    """Continue from the newest snapshot if there is one, take some steps, leave a snapshot."""
    training = replace(config.training, **STATIONS[world.size])
    config = replace(config, training=training)
    trainer = Trainer(config, set_up(config, world), world)
    found = newest_snapshot(run)
    barrier(world)
    if found is not None:
        parts = {part: part for part in trainer.weights.parts}
        trainer.restore(read_parts(found.folder, parts), found.facts)
    take_steps(trainer, N_STEPS)
    written = gather_objects(world, write_parts(run, trainer.step, trainer.weights.state()))
    if world.rank == 0:
        files = {name: sha256 for of_rank in written for name, sha256 in of_rank.items()}
        options = SnapshotOptions()
        commit_snapshot(run, trainer.step, files=files, facts=trainer.facts(), options=options)
    barrier(world)
    return trainer


def take_steps(trainer: Trainer, n_steps: int) -> None:
    for _ in range(n_steps):
        trainer.train_step()


def published(trainer: Trainer, run: Path) -> dict[str, np.ndarray]:
    """Weights of the checkpoint that a run writes, read back; the same on every rank."""
    folder = write_checkpoint(trainer, run, {})
    potential = checkpoint.load(folder, dtype=torch.float64)
    return {name: p.detach().numpy() for name, p in potential.named_parameters()}
