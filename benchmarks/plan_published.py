"""Predictions of `gfm plan` for configurations at which others have published scaling.

    python benchmarks/plan_published.py [--cost MS,µS,µS]

Their networks are not ours, nor are their data here: what can be compared is what follows from
sizes alone, parameters per rank, and whether a model of ours with as many parameters would scale as
well. So the backbone is ours with 18.0 M parameters and the heads with 4.03 M, the structures are
those of five samples in data/, drawn in equal parts, and the cost is measured here for that model,
on one thread, unless it is given. What has been published is quoted in one phrase with its source.

Efficiency is structures per second and rank, over those of DDP on the fewest ranks of the same
source, so that the four strategies can be compared with one another.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import torch
from gfm_models.backbone import BackboneConfig
from gfm_pretrain.config import RunConfig
from gfm_pretrain.cost import StepCost
from gfm_pretrain.head_options import HeadOptions
from gfm_pretrain.plan.machine import CASES, read_machine
from gfm_pretrain.plan.memory import parameters_held, state_bytes
from gfm_pretrain.plan.pass_profile import PassProfile, measure_pass
from gfm_pretrain.plan.prediction import Question
from gfm_pretrain.plan.scaling import Scaling, scale, with_band
from gfm_pretrain.plan.step_cost import describe_cost, measure_here, parse_cost
from gfm_pretrain.plan.strategy import STRATEGIES
from gfm_pretrain.plan.workload import Workload, read_workload
from gfm_pretrain.table import text_table
from gfm_pretrain.training_options import TrainingOptions
from machine import describe_machine

DATA = Path(__file__).parents[1] / "data"
SAMPLES = ("wb97x", "rmd17", "ccsdt_ethanol", "mlearn", "monbtaw")
MODEL = BackboneConfig(channels=1299)
"""18.0 M parameters."""
WIDTH = 1551
"""Of a head with 4.03 M parameters."""
SHARES = (100, 5, 1.6, 20, 9, 8, 29, 101, 83, 34, 49, 6, 12.6, 33, 4.2, 10)
"""Of sixteen sources, roughly as many million structures."""
TOLD = ("ddp", "whole-ranks", "wrap-around", "sharded")


@dataclass(frozen=True, kw_only=True)
class Published:
    """A configuration that others have run."""

    source: str
    """Where it is published."""
    machine: str
    """Name of its machine."""
    kind: Literal["strong", "weak"]
    """What stayed the same."""
    batch: int
    """Structures in a step: of all ranks if strong, of each if weak."""
    ranks: tuple[int, ...]
    """Fewest and most."""
    n_heads: int
    """Number of heads."""
    found: str
    """What is said of it."""


EFFICIENT = "efficient scaling on all three (abstract)"
SEAMLESS = "seamless strong and weak scaling (abstract)"
LINEAR = "near-linear strong scaling (abstract); batch unknown here"
POINTS = (
    Published(
        source="2506.21788",
        machine="frontier",
        kind="strong",
        batch=6400,
        ranks=(8, 64, 1280),
        n_heads=5,
        found=EFFICIENT,
    ),
    Published(
        source="2506.21788",
        machine="frontier",
        kind="weak",
        batch=160,
        ranks=(8, 1280),
        n_heads=5,
        found=EFFICIENT,
    ),
    Published(
        source="2506.21788",
        machine="perlmutter",
        kind="strong",
        batch=6400,
        ranks=(8, 64, 640),
        n_heads=5,
        found=EFFICIENT,
    ),
    Published(
        source="2506.21788",
        machine="perlmutter",
        kind="weak",
        batch=320,
        ranks=(8, 640),
        n_heads=5,
        found=EFFICIENT,
    ),
    Published(
        source="2406.12909",
        machine="frontier",
        kind="weak",
        batch=32,
        ranks=(8, 16_000),
        n_heads=5,
        found=LINEAR,
    ),
    Published(
        source="2604.15380",
        machine="frontier",
        kind="weak",
        batch=32,
        ranks=(64, 16_384),
        n_heads=16,
        found=SEAMLESS,
    ),
)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cost", metavar="MS,µS,µS", help="of a pass, an atom and an edge")
    given = parser.parse_args().cost
    print(f"{describe_machine()}\n")
    five = read_workload(configuration(5))
    show_parameters(five)
    cost, origin = (parse_cost(given), "given") if given else measure_here(configuration(5))
    print(f"cost of a step: {describe_cost(cost)} ({origin})\n")
    profile = measure_pass(MODEL, width=WIDTH, dtype=torch.float32, bytes_per_bucket=4_000_000)
    sixteen = read_workload(configuration(16))
    header = ("source", "machine", "kind", "batch", "heads", "ranks", *TOLD, "published")
    rows = [
        row
        for point in POINTS
        for row in compare(point, {5: five, 16: sixteen}[point.n_heads], cost, profile)
    ]
    print(text_table(header, rows))


def configuration(n_heads: int) -> RunConfig:
    """A run of 5 heads in equal parts, or of 16 in very different ones."""
    shares = (1,) * 5 if n_heads == 5 else tuple(round(10 * share) for share in SHARES)
    heads = {
        f"{SAMPLES[n % 5]}_{n}": HeadOptions(
            train=str(DATA / SAMPLES[n % 5] / "valid.extxyz.gz"),
            level_of_theory="of the sample",
            batch_size=shares[n],
            width=WIDTH,
        )
        for n in range(n_heads)
    }
    return RunConfig(
        run="build/plan_published",
        heads=heads,
        model=MODEL,
        device="cpu",
        training=TrainingOptions(steps=1),
    )


def show_parameters(workload: Workload) -> None:
    """Parameters and memory per rank, beside those of the published reference configuration."""
    stated = {"ddp": "38.2", "whole-ranks": "22.1"}
    workload, rows = workload.scaled(6400 / workload.batch_size), []
    for name in TOLD:
        strategy = STRATEGIES[name]
        n_shards = strategy.n_shards(1280, 8)
        owners = strategy.owners(workload, 1280)
        parameters = parameters_held(workload, owners, n_ranks=1280, n_shards=n_shards)
        n_bytes = state_bytes(workload, owners, n_ranks=1280, n_shards=n_shards)
        most = f"{parameters.max() / 1e6:.2f}"
        usual = f"{float(sorted(parameters)[len(parameters) // 2]) / 1e6:.2f}"
        mib = f"{n_bytes.max() / 2**20:.0f}"
        rows.append((name, usual, most, stated.get(name, "-"), mib))
    header = ("strategy", "M parameters, median", "most", "published", "state MiB, most")
    print("1280 ranks, 5 heads, 6400 structures in a step")
    print("published: 18.0 M shared, five heads of 4.03 M (2506.21788)")
    print(text_table(header, rows), end="\n\n", flush=True)


def compare(
    point: Published, workload: Workload, cost: StepCost, profile: PassProfile
) -> list[Sequence[object]]:
    """A row for each number of ranks."""
    machine = read_machine(point.machine)
    question = Question(machine=machine, cost=cost, profile=profile, n_steps=5)
    scaling = scale(
        workload,
        question,
        point.ranks,
        kind=point.kind,
        batch_size=Fraction(point.batch),
    )
    return [
        (
            *(point.source, point.machine, point.kind, point.batch, point.n_heads),
            *(n_ranks, *(efficiency(scaling, name, row) for name in TOLD)),
            point.found if row == len(point.ranks) - 1 else "",
        )
        for row, n_ranks in enumerate(point.ranks)
    ]


def efficiency(scaling: Scaling, name: str, row: int) -> str:
    """Likely value, and the band of the machine."""
    return with_band([scaling.efficiency(name, case)[row] for case in CASES], ".2f")


if __name__ == "__main__":
    main()
