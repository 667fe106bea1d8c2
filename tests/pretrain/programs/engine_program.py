"""A program of several ranks for test_trainer.py: trains a small run and tells all about it.

    engine_program.py CONFIG FOLDER [SNAPSHOT]

For each placement FOLDER receives `<placement>.npz`, the arrays of all ranks together. The facts
go to stdout as JSON. SNAPSHOT is one that another number of ranks wrote after three steps.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gfm_pretrain.reduction.buckets
import numpy as np
from gfm_pretrain.config import RunConfig
from gfm_pretrain.configuration import read_configuration
from gfm_pretrain.failure import run_main
from gfm_pretrain.process import Group, World, all_reduce_sum, barrier, gather_objects
from gfm_pretrain.setup import set_up
from gfm_pretrain.snapshots.options import SnapshotOptions
from gfm_pretrain.snapshots.read import newest_snapshot, read_parts
from gfm_pretrain.snapshots.write import commit_snapshot, write_parts
from gfm_pretrain.trainer import Trainer
from torch import Tensor

Arrays = dict[str, np.ndarray]
PLACEMENTS = ("wrap-around", "whole-ranks")
N_BEFORE_SNAPSHOT = N_AFTER_SNAPSHOT = 3


def examine(
    config: RunConfig, world: World, folder: Path, other_snapshot: Path | None = None
) -> tuple[Arrays, dict[str, Any]]:
    """Everything that must not depend on ranks, and what each rank holds."""
    setup = set_up(config, world)
    trainer = Trainer(config, setup, world)
    arrays: Arrays = {}
    facts: dict[str, Any] = {
        "heads": gather_objects(world, trainer.potential.head_names),
        "data": gather_objects(world, sorted(setup.data)),
        "owners": setup.owners,
        "parameters": [name for name, _ in trainer.potential.named_parameters()],
        "before": trainer.errors("valid"),
        "first_losses": (first := trainer.compute_gradients(trainer.feed.work(0))).losses,
        "first_norm": first.norm,
        "replicas_equal": {},
    }

    def collect(kind: str, of: Trainer) -> None:
        merged, facts["replicas_equal"][kind] = put_together(state(of), world)
        arrays.update({f"{kind}/{name}": array for name, array in merged.items()})

    collect("correct", trainer)
    with patch.object(gfm_pretrain.reduction.buckets, "start_sum", averaging):
        trainer.compute_gradients(trainer.feed.work(0))
    collect("averaged", trainer)
    facts["losses"], facts["norms"] = train(trainer, N_BEFORE_SNAPSHOT)
    run = folder / f"run-{config.training.placement}"
    snapshot = write_snapshot(trainer, run)
    losses, norms = train(trainer, N_AFTER_SNAPSHOT)
    facts["losses"] += losses
    facts["norms"] += norms
    facts["after"] = trainer.errors("valid")
    collect("trained", trainer)
    if config.training.placement == PLACEMENTS[0]:
        collect("resumed", resumed(config, world, snapshot))
        if other_snapshot is not None:
            collect("resumed_from_other", resumed(config, world, other_snapshot))
    facts["snapshot"] = str(snapshot)
    return arrays, facts


def write_snapshot(trainer: Trainer, run: Path) -> Path:
    """Each rank its parts, then rank 0 the manifest."""
    world, step, facts = trainer.world, trainer.step, trainer.facts()
    written = gather_objects(world, write_parts(run, step, trainer.weights.state()))
    if world.rank == 0:
        files = {name: sha256 for of_rank in written for name, sha256 in of_rank.items()}
        commit_snapshot(run, step, files=files, facts=facts, options=SnapshotOptions())
    barrier(world)
    return run / "snapshots" / f"step-{step:08d}"


def resumed(config: RunConfig, world: World, snapshot: Path) -> Trainer:
    trainer = Trainer(config, set_up(config, world), world)
    found = newest_snapshot(snapshot.parents[1])
    assert found is not None
    assert found.folder == snapshot
    trainer.restore(
        read_parts(snapshot, {part: part for part in trainer.weights.parts}), found.facts
    )
    train(trainer, N_AFTER_SNAPSHOT)
    return trainer


def train(trainer: Trainer, n_steps: int) -> tuple[list[dict[str, float]], list[float]]:
    """Losses and norms of the gradient, step by step."""
    results = [trainer.train_step() for _ in range(n_steps)]
    return [dict(r.losses) for r in results], [r.gradient_norm for r in results]


def averaging(world: World, tensor: Tensor, group: Group) -> None:
    """What the engine must not do."""
    all_reduce_sum(world, tensor, group).div_(len(group.ranks))


def state(trainer: Trainer) -> Arrays:
    """Gradients, weights, averages and moments of this rank."""
    found: Arrays = {}
    named = trainer.potential.named_parameters()
    for (name, parameter), average in zip(
        named, trainer.weights.average.shadow_params, strict=True
    ):
        moments: Mapping[str, Tensor] = trainer.weights.optimizer.state.get(parameter, {})
        assert parameter.grad is not None
        found[f"{name}/gradient"] = parameter.grad.numpy(force=True).copy()
        found[f"{name}/weight"] = parameter.numpy(force=True).copy()
        found[f"{name}/average"] = average.numpy(force=True).copy()
        found.update(
            {f"{name}/{moment}": v.numpy(force=True).copy() for moment, v in moments.items()}
        )
    return found


def put_together(mine: Arrays, world: World) -> tuple[Arrays, bool]:
    """The arrays of all ranks, and whether those that several ranks have are equal bit by bit."""
    merged: Arrays = {}
    of_ranks: Iterable[Arrays] = gather_objects(world, mine)
    for found in of_ranks:
        for name, array in found.items():
            if merged.setdefault(name, array).tobytes() != array.tobytes():
                return merged, False
    return merged, True


def main() -> int:
    config = read_configuration(RunConfig, Path(sys.argv[1]))
    folder = Path(sys.argv[2])
    other = Path(sys.argv[3]) if sys.argv[3:] else None

    def examine_placements(world: World) -> None:
        facts = {}
        for placement in PLACEMENTS:
            training = replace(config.training, placement=placement)
            arrays, facts[placement] = examine(
                replace(config, training=training), world, folder, other
            )
            if world.rank == 0:
                np.savez(folder / f"{placement}.npz", allow_pickle=False, **arrays)
        if world.rank == 0:
            sys.stdout.write(json.dumps(facts))

    return run_main(examine_placements, program="engine_program", device="cpu", timeout_seconds=60)


if __name__ == "__main__":
    sys.exit(main())
