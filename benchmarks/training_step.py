"""What an atom and an edge cost in training: the numbers behind placement and packing.

    python benchmarks/training_step.py [--repetitions N]

In float32, on one thread. Times one head's part of a training step (graph, energy, forces, stress,
loss, gradient of all weights) on batches of 1, 2, 4, … structures of each sample in data/, one
after the other and over again, takes each one's shortest processor time, and fits

    seconds = a + b · atoms + c · edges

by least squares of the relative residuals. The engine measures b / c and a / c itself
before the first step.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gfm_models.backbone import BackboneConfig
from gfm_models.derivatives import predict
from gfm_models.loss import LossConfig, label_counts, loss_sums, weighted_loss
from gfm_models.potential import MultiHeadPotential, build_potential
from gfm_pretrain.cost import ROUGH
from gfm_pretrain.data.batch import build_batch
from gfm_pretrain.data.heads import HeadSummary, read_head
from gfm_pretrain.data.structure_set import Columns
from gfm_pretrain.head_options import HeadOptions
from gfm_pretrain.table import text_table
from gfm_pretrain.training_options import TrainingOptions
from jaxtyping import Float
from machine import describe_machine

DATA = Path(__file__).parents[1] / "data"
HEADS = ("wb97x", "rmd17", "ccsdt_ethanol", "mlearn", "monbtaw")
"""The samples that have forces."""

CHANNELS = (32, 64)
"""Those of the demonstration, and the default."""

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
MOST_EDGES = TrainingOptions(steps=1).micro_batch_edges
"""The engine takes no more through the network at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Structures of one head, and their size."""

    head: str
    columns: Columns
    n_atoms: int
    n_edges: int


def main() -> None:
    """Time, fit, and print the coefficients for each number of channels."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5, metavar="N", help="at least 1 (5)")
    repetitions = max(1, parser.parse_args().repetitions)
    torch.set_num_threads(1)
    print(f"{describe_machine()}; {repetitions} repetitions\n")
    summaries, batches = read_batches(cutoff=BackboneConfig().cutoff)
    rows = [
        coefficients(BackboneConfig(channels=channels), summaries, batches, repetitions)
        for channels in CHANNELS
    ]
    header = (
        "channels",
        "batches",
        "a ms",
        "b µs/atom",
        "c µs/edge",
        "b/c",
        "residual %",
        "worst %",
    )
    print(text_table(header, rows))
    print(f"\nunmeasured, the engine takes b/c = {ROUGH.of_atom:g}")


def read_batches(*, cutoff: float) -> tuple[dict[str, HeadSummary], list[Batch]]:
    """Batches of every size of every head that the engine would not cut, at random."""
    generator = np.random.default_rng(0)
    summaries, batches = {}, []
    for head in HEADS:
        options = HeadOptions(
            train=str(DATA / head / "valid.extxyz.gz"), level_of_theory="of the sample"
        )
        summaries[head], data = read_head(head, options, cutoff=cutoff)
        index = summaries[head].indices["train"]
        for size in BATCH_SIZES:
            places = generator.choice(len(index), size, replace=False)
            n_atoms, n_edges = int(index.n_atoms(places).sum()), int(index.edges(places).sum())
            if n_edges <= MOST_EDGES:
                columns = data["train"].read(places)
                batches.append(Batch(head=head, columns=columns, n_atoms=n_atoms, n_edges=n_edges))
    return summaries, batches


def coefficients(
    model: BackboneConfig,
    summaries: dict[str, HeadSummary],
    batches: Sequence[Batch],
    repetitions: int,
) -> tuple[object, ...]:
    """Row of the table for one model."""
    potential = build_potential(model, {name: s.config for name, s in summaries.items()})
    calls = [step(potential, batch, unit=summaries[batch.head].unit) for batch in batches]
    seconds = time_in_turn(calls, repetitions).min(0)
    sizes = np.array([[1.0, batch.n_atoms, batch.n_edges] for batch in batches])
    (a, b, c), residuals = fit_relative(sizes, seconds)
    return (
        model.channels,
        len(batches),
        f"{1e3 * a:.1f}",
        f"{1e6 * b:.1f}",
        f"{1e6 * c:.2f}",
        f"{b / c:.1f}",
        f"{100 * np.median(np.abs(residuals)):.1f}",
        f"{100 * np.abs(residuals).max():.1f}",
    )


def step(potential: MultiHeadPotential, batch: Batch, *, unit: float) -> Callable[[], None]:
    """What the engine does with a batch: see `gfm_pretrain.trainer.Trainer._backward`."""
    config = LossConfig()

    def run() -> None:
        potential.zero_grad(set_to_none=True)
        graph, labels = build_batch(
            batch.columns, cutoff=potential.cutoff, device=torch.device("cpu")
        )
        prediction = predict(potential, graph, batch.head, create_graph=True)
        sums = loss_sums(prediction, labels, graph, unit=unit, delta=config.delta)
        weighted_loss(sums, label_counts(labels), config).backward()

    return run


def time_in_turn(
    calls: Sequence[Callable[[], None]], repetitions: int
) -> Float[np.ndarray, "repetitions calls"]:
    """Processor seconds of each call in each repetition; a first call of each does not count."""
    for call in calls:
        call()
    times = np.empty((repetitions, len(calls)))
    for repetition in range(repetitions):
        for column, call in enumerate(calls):
            start = time.process_time()
            call()
            times[repetition, column] = time.process_time() - start
    return times


def fit_relative(
    sizes: Float[np.ndarray, "batches 3"], seconds: Float[np.ndarray, " batches"]
) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, " batches"]]:
    """Coefficients x that minimise Σ (sizes x / seconds - 1)², and these residuals."""
    relative = sizes / seconds[:, None]
    found = np.linalg.lstsq(relative, np.ones(len(seconds)))[0]
    return found, relative @ found - 1


if __name__ == "__main__":
    main()
