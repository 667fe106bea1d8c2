"""A program of several ranks for test_plan_of_real_runs.py: trains a little and counts.

    plan_program.py CONFIG

The facts of all ranks go to stdout as JSON, by way of training.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from gfm_pretrain.config import RunConfig
from gfm_pretrain.configuration import read_configuration
from gfm_pretrain.failure import run_main
from gfm_pretrain.plan.held import held_bytes, held_parameters
from gfm_pretrain.process import World, gather_objects
from gfm_pretrain.setup import set_up
from gfm_pretrain.trainer import Trainer

N_STEPS = 3
WAYS: dict[str, dict[str, Any]] = {
    "wrap-around": {"placement": "wrap-around"},
    "whole-ranks": {"placement": "whole-ranks"},
    "ddp": {"placement": "everywhere", "reduction": "ddp"},
    "sharded": {"placement": "wrap-around", "reduction": "sharded", "shard_ranks": 2},
}
"""What is changed of the training, by the names of strategies."""


def count(config: RunConfig, world: World) -> dict[str, Any]:
    """What each rank holds after some steps, sends in one, and computes in each."""
    trainer = Trainer(config, set_up(config, world), world)
    trainer.errors("valid")
    works = [trainer.feed.work(step) for step in range(N_STEPS)]
    before = trainer.reduction.bytes_sent
    for _ in works:
        trainer.train_step()
    mine = {
        "parameters": held_parameters(trainer),
        "bytes": held_bytes(trainer),
        "sent": (trainer.reduction.bytes_sent - before) / N_STEPS,
        "passes": [[p.head for p in work.passes] for work in works],
        "structures": [sum(len(p.places) for p in work.passes) for work in works],
        "costs": [work.costs.tolist() for work in works],
    }
    return {"owners": dict(trainer.setup.owners), "ranks": gather_objects(world, mine)}


def main() -> int:
    config = read_configuration(RunConfig, Path(sys.argv[1]))

    def count_all(world: World) -> None:
        found = {
            name: count(replace(config, training=replace(config.training, **options)), world)
            for name, options in WAYS.items()
        }
        if world.rank == 0:
            sys.stdout.write(json.dumps(found))

    return run_main(count_all, program="plan_program", device="cpu", timeout_seconds=60)


if __name__ == "__main__":
    sys.exit(main())
