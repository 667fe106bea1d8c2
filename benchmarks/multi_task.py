"""Multi-task parallelism against plain data parallelism: bytes, memory and time of a step.

    python benchmarks/multi_task.py DATA [--out FOLDER] [--ranks N] [--heads H …] [--rounds K]

DATA holds a folder for each set, as for benchmarks/real_data.py; the first H sets, the largest
first, become H heads of one model, whose heads have 0.22 of the parameters of the backbone, as in
arXiv:2506.21788 (4.03 M of 18.0 M). Three ways train it on the same global batches:

    plain DDP        torch's DistributedDataParallel, every head on every rank
    everywhere       our overlapped sums, every head on every rank
    multi-task       our overlapped sums, each head on the ranks that own it (wrap-around)

In one launch they take turns, step by step, in an order that changes from round to round. Time is
that of the slowest rank. Bytes are counted by the kernel at this process's sockets; memory is what
weights, gradients, moments and averages take, and the largest resident size of a process that does
nothing else, from a launch of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gfm_models.backbone import Backbone, BackboneConfig
from gfm_pretrain.config import RunConfig
from gfm_pretrain.data.store.manifest import read_manifest
from gfm_pretrain.device import peak_memory
from gfm_pretrain.failure import run_main
from gfm_pretrain.head_options import HeadOptions
from gfm_pretrain.mixture_options import MixtureOptions
from gfm_pretrain.process import World, barrier, gather_objects
from gfm_pretrain.setup import set_up
from gfm_pretrain.table import text_table
from gfm_pretrain.trainer import Trainer
from gfm_pretrain.training_options import TrainingOptions
from machine import describe_machine
from real_data import BIN, MPI_ENVIRONMENT, import_set
from wire import bytes_between, bytes_sent_by_socket

WAYS: dict[str, dict[str, Any]] = {
    "plain DDP": {"placement": "everywhere", "reduction": "ddp"},
    "everywhere": {"placement": "everywhere", "reduction": "overlapped"},
    "multi-task": {"placement": "wrap-around", "reduction": "overlapped"},
}
SHARE_OF_HEAD = 4.03 / 18.0
"""Parameters of a head over those of the backbone. Source: arXiv:2506.21788."""
STEPS_BEFORE = 2
"""Steps of each way that do not count."""


def main() -> int:
    """Launch the measurements and print what came out, or be one of the ranks that measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help="folder of the sets")
    add("--out", type=Path, default=Path("build/real_data"), metavar="FOLDER", help="for stores")
    add("--ranks", type=int, default=4, metavar="N", help="MPI ranks (4)")
    add("--heads", type=int, nargs="+", default=[2, 5, 16], metavar="H", help="(2 5 16)")
    add("--rounds", type=int, default=10, metavar="K", help="steps of each way that count (10)")
    add("--channels", type=int, default=64, metavar="C", help="of the backbone (64)")
    add("--structures", type=int, default=64, metavar="B", help="in a global batch (64)")
    add("--measure", nargs="+", metavar="WAY", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        return run_main(lambda w: measure(arguments, w), program="multi_task", device="cpu")
    print(describe_machine(), end=f"; {arguments.ranks} ranks\n\n")
    stores = arguments.out / "stores"
    stores.mkdir(parents=True, exist_ok=True)
    for path in arguments.data.glob("*/metadata.json"):
        import_set(path.parent, stores)
    rows = [row for n_heads in arguments.heads for row in compare(arguments, n_heads)]
    print(text_table(HEADER, rows))
    return 0


HEADER = (
    "heads",
    "way",
    "parameters/rank",
    "state MB/rank",
    "RSS MB",
    "MB sent/step",
    "ring MB/step",
    "ms/step min",
    "median",
    "max",
    "ratio to DDP min",
    "median",
    "max",
)


def compare(arguments: argparse.Namespace, n_heads: int) -> list[tuple[object, ...]]:
    """Rows of the table for one number of heads."""
    together = launch(arguments, n_heads, list(WAYS))
    alone = {way: launch(arguments, n_heads, [way])[way] for way in WAYS}
    reference = np.array(together["plain DDP"]["seconds"])
    rows: list[tuple[object, ...]] = []
    for way, found in together.items():
        seconds = np.array(found["seconds"])
        rows.append(
            (
                n_heads,
                way,
                f"{np.mean(found['parameters']):.0f}",
                f"{np.mean(found['state']) / 1e6:.2f}",
                f"{max(alone[way]['rss']) / 1e6:.0f}",
                f"{np.mean(found['bytes']) / 1e6:.3f}",
                f"{np.mean(found['ring']) / 1e6:.3f}",
                *spread(1e3 * seconds, ".0f"),
                *spread(seconds / reference, ".2f"),
            )
        )
    return rows


def spread(values: np.ndarray, form: str) -> list[str]:
    """Smallest, median and largest."""
    return [format(f(values), form) for f in (np.min, np.median, np.max)]


def launch(arguments: argparse.Namespace, n_heads: int, ways: list[str]) -> dict[str, Any]:
    """Start the ranks; what they found of each way."""
    words: list[Any] = [BIN / "mpiexec", "-n", arguments.ranks, sys.executable, __file__]
    words += [arguments.data, "--out", arguments.out, "--heads", n_heads, "--measure", *ways]
    for name in ("rounds", "channels", "structures"):
        words += [f"--{name}", getattr(arguments, name)]
    ended = subprocess.run(
        [str(word) for word in words],
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
            trainer.train_step()
    found = {way: {"seconds": [], "bytes": [], "ring": []} for way in trainers}
    for number in range(arguments.rounds):
        order = np.roll(list(trainers), number)
        for way in order:
            for key, value in one_step(trainers[way], world).items():
                found[way][key].append(value)
    told = {
        way: {
            "seconds": np.max(gather_objects(world, found[way]["seconds"]), axis=0).tolist(),
            "bytes": np.mean(gather_objects(world, found[way]["bytes"]), axis=0).tolist(),
            "ring": found[way]["ring"],
            "parameters": gather_objects(world, n_parameters(trainer)),
            "state": gather_objects(world, bytes_of_state(trainer)),
            "rss": gather_objects(world, peak_memory(world.device)),
        }
        for way, trainer in trainers.items()
    }
    if world.rank == 0:
        print(json.dumps(told))


def one_step(trainer: Trainer, world: World) -> dict[str, float]:
    """Seconds and bytes of one step on this rank, and bytes by the formula of the ring."""
    barrier(world)
    before, start = bytes_sent_by_socket(), time.perf_counter()
    result = trainer.train_step()
    seconds = time.perf_counter() - start
    sent = bytes_between(before, bytes_sent_by_socket())
    return {"seconds": seconds, "bytes": sent, "ring": result.bytes_sent}


def n_parameters(trainer: Trainer) -> int:
    """Weights on this rank."""
    return sum(p.numel() for p in trainer.potential.parameters())


def bytes_of_state(trainer: Trainer) -> int:
    """Of weights, gradients, moments and averages on this rank."""
    tensors = [*trainer.potential.parameters(), *trainer.weights.average.shadow_params]
    tensors += [p.grad for p in trainer.potential.parameters() if p.grad is not None]
    tensors += [m for state in trainer.weights.optimizer.state.values() for m in state.values()]
    return sum(t.numel() * t.element_size() for t in tensors)


def trainer_of(arguments: argparse.Namespace, way: str, world: World) -> Trainer:
    """A run of the largest sets."""
    stores = sorted((arguments.out / "stores").iterdir(), key=size_of, reverse=True)
    backbone = BackboneConfig(channels=arguments.channels)
    width = head_width(backbone)
    heads = {
        store.name: HeadOptions(store=str(store), labels=("energy",), width=width)
        for store in stores[: arguments.heads[0]]
    }
    config = RunConfig(
        run="unused",
        heads=heads,
        model=backbone,
        mixture=MixtureOptions(by="temperature", temperature=2.0, batch_size=arguments.structures),
        training=TrainingOptions(steps=1000, **WAYS[way]),
        device="cpu",
    )
    return Trainer(config, set_up(config, world), world)


def size_of(store: Path) -> int:
    """Training structures; what is no store has none."""
    return read_manifest(store).splits["train"].n_structures if store.is_dir() else 0


def head_width(backbone: BackboneConfig) -> int:
    """Hidden width with which a head has its share of parameters."""
    n_backbone = sum(p.numel() for p in Backbone(backbone).parameters())
    return round(SHARE_OF_HEAD * n_backbone / (backbone.n_features + 1))


if __name__ == "__main__":
    sys.exit(main())
