"""The ways of summing gradients, for one large backbone: bytes, memory and time of a step.

    python benchmarks/reduction.py [--ranks N] [--rounds K] [--channels C] [--hidden H]

Two of the samples in data/, two heads, a backbone with wide radial networks, several passes for
each rank in a step. Ways:

    overlapped          the default: messages of 4 MB go during the backward pass
    one message         the same with one message for all, after the backward pass
    sharded             the backbone in N pieces, gathered and summed once in a step
    sharded, 2 pieces   the same within pairs of ranks, as within nodes
    in every pass       in N pieces, gathered and summed again in each pass: what sharded avoids
    ddp                 torch's DistributedDataParallel with a hook that sums

In one launch they take turns, step by step, in an order that changes from round to round. Time is
that of the slowest rank. Bytes are counted by the kernel at this process's sockets. State is what
weights, gradients, moments and averages take between steps, and RSS the largest resident size of a
rank that does nothing else, from a launch of its own.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gfm_models.backbone import BackboneConfig
from gfm_pretrain.config import RunConfig
from gfm_pretrain.device import peak_memory
from gfm_pretrain.failure import run_main
from gfm_pretrain.head_options import HeadOptions
from gfm_pretrain.process import World, gather_objects
from gfm_pretrain.reduction.reduction import Reduction
from gfm_pretrain.reduction.sharded import ShardedReduction
from gfm_pretrain.reduction.shards import piece
from gfm_pretrain.setup import set_up
from gfm_pretrain.table import text_table
from gfm_pretrain.trainer import Trainer
from gfm_pretrain.training_options import TrainingOptions
from machine import describe_machine
from multi_task import one_step, spread
from real_data import BIN, MPI_ENVIRONMENT
from torch import Tensor

DATA = Path(__file__).parents[1] / "data"
HEADS = ("rmd17", "wb97x")
EDGES = 150
"""Most of a pass."""
TIMEOUT_SECONDS = 180
STEPS_BEFORE = 2
"""Steps of each way that do not count."""

WAYS: dict[str, dict[str, Any]] = {
    "overlapped": {},
    "one message": {"bucket_megabytes": 1e6},
    "sharded": {"reduction": "sharded"},
    "sharded, 2 pieces": {"reduction": "sharded", "shard_ranks": 2},
    "in every pass": {"reduction": "sharded"},
    "ddp": {"reduction": "ddp", "placement": "everywhere"},
}


class InEveryPass(Reduction):
    """Gathers and sums the backbone again in each pass, of which all ranks take equally many.

    Heads are summed at the end: a head that all ranks own shares the backbone's communicator, and
    its sum would come before different passes of the backbone on different ranks.
    """

    def __init__(self, sharded: ShardedReduction) -> None:
        self.sharded = sharded
        self.n_passes = 0
        """Most of any rank in the step that comes; to be set before it."""
        self._n_done = 0

    @property
    def bytes_sent(self) -> int:
        """As of what it is made of."""
        return self.sharded.bytes_sent

    def begin(self, heads: Collection[str]) -> None:
        """Gather for the first pass."""
        assert set(heads) <= set(self.sharded.groups)
        self.sharded.begin(list(self.sharded.groups))
        self._n_done = 0

    def backward(
        self,
        loss: Tensor,
        head: str,
        *,
        last_of_head: bool,  # noqa: ARG002 (see above)
        last: bool,
    ) -> None:
        """Sum the backbone, and gather it for the next pass."""
        self.sharded.backward(loss, head, last_of_head=False, last=last)
        self._next()

    def finish(self) -> None:
        """Take the passes that others take; the last one sums the heads as well."""
        while self._n_done < self.n_passes:
            self._next()
        self.sharded.finish()

    def squared_norms(self) -> dict[str, Tensor]:
        """As of what it is made of."""
        return self.sharded.squared_norms()

    def _next(self) -> None:
        self._n_done += 1
        if self._n_done < self.n_passes:
            self.sharded._sum_backbone()
            self.sharded.backbone.reshard()
            self.sharded._gather()


def main() -> int:
    """Launch the measurements and print what came out, or be one of the ranks that measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--ranks", type=int, default=4, metavar="N", help="MPI ranks, an even number (4)")
    add("--rounds", type=int, default=8, metavar="K", help="steps of each way that count (8)")
    add("--channels", type=int, default=64, metavar="C", help="of the backbone (64)")
    add("--hidden", type=int, default=1024, metavar="H", help="width of radial networks (1024)")
    add("--measure", nargs="+", metavar="WAY", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        return run_main(
            lambda world: measure(arguments, world),
            program="reduction",
            device="cpu",
            timeout_seconds=TIMEOUT_SECONDS,
        )
    together = launch(arguments, list(WAYS))
    alone = {way: launch(arguments, [way])[way] for way in WAYS}
    sizes = together["overlapped"]
    print(f"{describe_machine()}; {arguments.ranks} ranks, {sizes['passes']} passes")
    print(f"backbone {sizes['backbone']} parameters, head {sizes['head']}\n")
    print(text_table(HEADER, rows_of(together, alone)))
    return 0


HEADER = (
    *("way", "parameters/rank", "state MB", "RSS MB", "MB sent/step", "ring MB/step"),
    *("ms/step min", "median", "max", "of overlapped min", "median", "max"),
)


def rows_of(together: dict[str, Any], alone: dict[str, Any]) -> list[tuple[object, ...]]:
    """Rows of the table."""
    reference = np.array(together["overlapped"]["seconds"])
    return [
        (
            way,
            f"{np.mean(found['parameters']):.0f}",
            f"{np.mean(found['state']) / 1e6:.1f}",
            f"{max(alone[way]['rss']) / 1e6:.0f}",
            f"{np.mean(found['bytes']) / 1e6:.2f}",
            f"{np.mean(found['ring']) / 1e6:.2f}",
            *spread(1e3 * np.array(found["seconds"]), ".0f"),
            *spread(np.array(found["seconds"]) / reference, ".2f"),
        )
        for way, found in together.items()
    ]


def launch(arguments: argparse.Namespace, ways: list[str]) -> dict[str, Any]:
    """Start the ranks; what they found of each way."""
    words: list[Any] = [BIN / "mpiexec", "-n", arguments.ranks, sys.executable, __file__]
    for name in ("rounds", "channels", "hidden"):
        words += [f"--{name}", getattr(arguments, name)]
    ended = subprocess.run(
        [str(word) for word in (*words, "--measure", *ways)],
        env={**os.environ, **MPI_ENVIRONMENT},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(ended.stdout)


def measure(arguments: argparse.Namespace, world: World) -> None:
    """Train in each way in turn; rank 0 prints what all ranks found."""
    torch.set_num_threads(1)
    trainers = {way: trainer_of(arguments, way, world) for way in arguments.measure}
    for trainer in trainers.values():
        for _ in range(STEPS_BEFORE):
            prepare(trainer, world)
            trainer.train_step()
    found = {way: {"seconds": [], "bytes": [], "ring": []} for way in trainers}
    for number in range(arguments.rounds):
        for way in np.roll(list(trainers), number):
            prepare(trainers[way], world)
            for key, value in one_step(trainers[way], world).items():
                found[way][key].append(value)
    told = {way: told_of(trainer, found[way], world) for way, trainer in trainers.items()}
    if world.rank == 0:
        print(json.dumps(told))


def told_of(trainer: Trainer, found: dict[str, list[float]], world: World) -> dict[str, Any]:
    """What all ranks found of one way."""
    potential = trainer.potential
    head = potential.head(potential.head_names[0])
    return {
        "seconds": np.max(gather_objects(world, found["seconds"]), axis=0).tolist(),
        "bytes": np.mean(gather_objects(world, found["bytes"]), axis=0).tolist(),
        "ring": found["ring"],
        "parameters": gather_objects(world, sum(piece(p).numel() for p in potential.parameters())),
        "state": gather_objects(world, bytes_of_state(trainer)),
        "rss": gather_objects(world, peak_memory(world.device)),
        "passes": gather_objects(world, n_passes(trainer)),
        "backbone": sum(p.numel() for p in potential.backbone.parameters()),
        "head": sum(p.numel() for p in head.parameters()),
    }


def bytes_of_state(trainer: Trainer) -> int:
    """Of weights, gradients, moments and averages on this rank; pieces count as they are."""
    tensors = [*trainer.potential.parameters(), *trainer.weights.average.shadow_params]
    tensors += [p.grad for p in trainer.potential.parameters() if p.grad is not None]
    tensors += [m for state in trainer.weights.optimizer.state.values() for m in state.values()]
    return sum(piece(t).numel() * t.element_size() for t in tensors)


def n_passes(trainer: Trainer) -> int:
    """Of this rank in the next step."""
    return len(trainer.feed.work(trainer.step).passes)


def prepare(trainer: Trainer, world: World) -> None:
    """Tell a reduction that must know how many passes the next step has."""
    most = max(gather_objects(world, n_passes(trainer)))
    if isinstance(trainer.reduction, InEveryPass):
        trainer.reduction.n_passes = most


def trainer_of(arguments: argparse.Namespace, way: str, world: World) -> Trainer:
    """A run of two samples."""
    heads = {
        name: HeadOptions(
            train=str(DATA / name / "valid.extxyz.gz"), level_of_theory="made up", batch_size=8
        )
        for name in HEADS
    }
    hidden = (arguments.hidden, arguments.hidden)
    config = RunConfig(
        run="unused",
        heads=heads,
        model=BackboneConfig(channels=arguments.channels, radial_hidden=hidden),
        training=TrainingOptions(steps=1000, micro_batch_edges=EDGES, **WAYS[way]),
        device="cpu",
    )
    trainer = Trainer(config, set_up(config, world), world)
    if way == "in every pass":
        assert isinstance(trainer.reduction, ShardedReduction)
        trainer.reduction = InEveryPass(trainer.reduction)
    return trainer


if __name__ == "__main__":
    sys.exit(main())
