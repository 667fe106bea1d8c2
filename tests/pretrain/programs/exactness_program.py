"""A program of several ranks for test_exactness.py: many ways to the gradient of one process.

    exactness_program.py CONFIG

The first 2, 3, … of the ranks make a world of their own, one world after the other, so that
processes start only once. Rank 0 also computes alone what all must find. For every case one line
of JSON goes to stdout.
"""

import json
import os
import sys
import traceback
from dataclasses import asdict, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gfm_models.backbone import BackboneConfig
from gfm_pretrain.config import RunConfig
from gfm_pretrain.configuration import read_configuration
from gfm_pretrain.meeting import meet
from gfm_pretrain.process import World, gather_objects, join
from gfm_pretrain.reduction.shards import piece, whole
from gfm_pretrain.setup import set_up
from gfm_pretrain.trainer import Trainer
from programs.exactness_cases import WORLDS, Case, cases, cases_of_traffic, configure
from programs.messages import order_of_messages, traffic
from programs.moving import STATIONS, go_on, published, take_steps
from torch.distributed import PrefixStore  # pyright: ignore[reportPrivateImportUsage]

Arrays = dict[str, np.ndarray]

ALONE = World(
    rank=0, size=1, local_rank=0, local_size=1, launcher="single", device=torch.device("cpu")
)
TIMEOUT = timedelta(seconds=200)
N_STEPS = 3

LARGER = BackboneConfig(channels=40, cutoff=3.2, radial_hidden=(40,), element_channels=40)
"""A backbone so large that the numbers ranks agree on in each step, fewer than 30, do not count
beside its gradient; and with dimensions that 2, 4 and 5 ranks divide evenly."""


def trainer_of(config: RunConfig, case: Case, world: World) -> Trainer:
    configured = configure(config, case)
    return Trainer(configured, set_up(configured, world), world)


def compute(trainer: Trainer, *, trains: bool) -> dict[str, Any]:
    """What must not depend on ranks, of the parts on this rank."""
    norm = trainer.compute_gradients(trainer.feed.work(0)).norm
    gradients = {
        name: whole(p.grad).numpy().copy()
        for name, p in trainer.potential.named_parameters()
        if p.grad is not None
    }
    for _ in range(N_STEPS if trains else 0):
        trainer.train_step()
    trainer.weights.check_replicas(step=trainer.step)
    return {
        "norm": norm,
        "gradients": gradients,
        "states": states(trainer) if trains else {},
        "errors": trainer.errors("valid") if trains else {},
    }


def states(trainer: Trainer) -> Arrays:
    """Weights, averages and moments that this rank writes into a snapshot."""
    return {
        f"{name.split('/')[0]}.{part}/{name}": tensor.numpy().copy()
        for part, state in trainer.weights.state().items()
        for name, tensor in state.items()
    }


def examine(trainer: Trainer, case: Case, world: World, alone: Any) -> dict[str, Any]:
    """Hold one case against one process; on rank 0 what was found."""
    found = compute(trainer, trains=case.trains)
    gradients, equal = merged(found["gradients"], world)
    trained, _ = merged(found["states"], world)
    facts = {
        "passes": gather_objects(world, len(trainer.feed.work(0).passes)),
        "owners": trainer.setup.owners,
        "parameters": gather_objects(world, held(trainer)),
        "replicas_equal": equal,
    }
    if world.rank > 0:
        return {}
    expected = alone(case.plain)
    return {
        **facts,
        "gradients": difference(gradients, expected["gradients"]),
        "states": difference(trained, expected["states"]),
        "norms": [found["norm"], expected["norm"]],
        "errors": [found["errors"], expected["errors"]],
    }


def merged(mine: Arrays, world: World) -> tuple[Arrays, bool]:
    """The arrays of all ranks, and whether those that several ranks have are equal to the bit."""
    found: Arrays = {}
    equal = True
    for arrays in gather_objects(world, mine):
        for name, array in arrays.items():
            equal &= found.setdefault(name, array).tobytes() == array.tobytes()
    return found, equal


def part_of(name: str) -> str:
    """`backbone`, `heads.<name>`, or the kind of a trained state."""
    return ".".join(name.split(".")[: 1 + name.startswith("heads.")])


def largest(arrays: Arrays) -> dict[str, float]:
    """Largest number of each part."""
    found: dict[str, float] = {}
    for name, array in arrays.items():
        part = part_of(name)
        found[part] = max(found.get(part, 0.0), float(np.abs(array).max(initial=0.0)))
    return found


def difference(found: Arrays, expected: Arrays) -> dict[str, float]:
    """Largest difference in each part, relative to the part's largest number."""
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    scale = largest(expected)
    differences = largest({name: found[name] - expected[name] for name in expected})
    return {part: d / scale[part] for part, d in differences.items()}


def held(trainer: Trainer) -> dict[str, int]:
    """Numbers of weights on this rank, by part."""
    counts: dict[str, int] = {}
    for name, parameter in trainer.potential.named_parameters():
        counts[part_of(name)] = counts.get(part_of(name), 0) + piece(parameter).numel()
    return counts


def examine_world(config: RunConfig, world: World, alone: Any, run: Path) -> None:
    for case in cases(world.size):
        facts = examine(trainer_of(config, case, world), case, world, alone)
        tell(world, {"what": "exactness", "case": asdict(case), **facts})
    for case in cases_of_traffic(world.size):
        trainer = trainer_of(replace(config, model=LARGER), case, world)
        facts = {
            "parameters": gather_objects(world, held(trainer)),
            "owners": trainer.setup.owners,
            **traffic(trainer, world),
        }
        tell(world, {"what": "traffic", "case": asdict(case), **facts})
    if world.size in STATIONS:
        moved = examine_moved(config, world, run)
        tell(world, {"what": "moved", **moved})
    if world.size in (5, 8):
        case = Case(heads=8, bucket_bytes=1000)
        facts = order_of_messages(trainer_of(config, case, world), world)
        tell(world, {"what": "order", **facts})


def examine_moved(config: RunConfig, world: World, run: Path) -> dict[str, Any]:
    """Hold a run that has come from other ranks against one that stayed alone."""
    trainer = go_on(config, world, run)
    found, _ = merged(states(trainer), world)
    weights = published(trainer, run)
    if world.rank > 0:
        return {}
    alone = Trainer(config, set_up(config, ALONE), ALONE)
    take_steps(alone, trainer.step)
    return {
        "step": trainer.step,
        "states": difference(found, states(alone)),
        "checkpoint": difference(weights, published(alone, run / "alone")),
    }


def tell(world: World, facts: dict[str, Any]) -> None:
    if world.rank == 0:
        sys.stdout.write(json.dumps({"n_ranks": world.size, **facts}) + "\n")


def main() -> None:
    config = read_configuration(RunConfig, Path(sys.argv[1]))
    meeting = meet(TIMEOUT)
    assert meeting.store is not None
    alone = cache(lambda case: compute(trainer_of(config, case, ALONE), trains=case.trains))
    for n_ranks in WORLDS:
        if meeting.rank < n_ranks:
            store = PrefixStore(f"world-{n_ranks}", meeting.store)
            with join(replace(meeting, size=n_ranks, store=store), "cpu") as world:
                torch.set_num_threads(1)
                examine_world(config, world, alone, Path(sys.argv[1]).parent / "moving")


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # and the launcher ends the others
