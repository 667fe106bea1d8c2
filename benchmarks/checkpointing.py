"""Memory and time of training on forces, with activations kept and with interactions recomputed.

    python benchmarks/checkpointing.py [--repeat N …] [--rounds K]

Takes the largest crystal of data/mlearn, repeated N x N x N, through one training step of the
default architecture, in float32 on one thread: energy, forces, loss, gradient of all weights. Ways:

    kept                     as training does by default
    torch.utils.checkpoint   around each interaction, without reentry
    blocks of E edges        training.checkpoint_activations, training.checkpoint_edges=E

Each step runs in a process of its own; ways take turns. Memory is what the largest resident size of
the process grew by in the step. Every way must find the gradient of the first.
"""

import argparse
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from ase.io import iread
from gfm_models.backbone import BackboneConfig
from gfm_models.derivatives import predict
from gfm_models.graph import AtomicGraph, graph_from_atoms
from gfm_models.heads import HeadConfig
from gfm_models.potential import MultiHeadPotential, build_potential
from gfm_pretrain.device import peak_memory
from gfm_pretrain.table import text_table
from machine import describe_machine
from torch import nn
from torch.utils.checkpoint import checkpoint

CRYSTALS = Path(__file__).parents[1] / "data/mlearn/valid.extxyz.gz"
WAYS = ("kept", "torch.utils.checkpoint", "4096", "1024", "256")
SAME = 1e-4
"""Relative to the largest gradient: float32, sums in another order."""


def main() -> None:
    """Start a process for each step, and print what they found; or be such a process."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--repeat", type=int, nargs="+", default=[1, 2], metavar="N", help="(1 2)")
    add("--rounds", type=int, default=3, metavar="K", help="processes of each way (3)")
    add("--measure", choices=WAYS, help=argparse.SUPPRESS)
    add("--gradient", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.measure:
        print(*measure(arguments.measure, arguments.repeat[0], arguments.gradient))
        return
    print(f"{describe_machine()}\n")
    rows = [row for repeat in arguments.repeat for row in compare(repeat, arguments.rounds)]
    print(text_table(HEADER, rows))


HEADER = ("atoms", "edges", "way", "MB", "of kept", "s min", "median", "of kept", "median")


def compare(repeat: int, rounds: int) -> list[tuple[object, ...]]:
    """Rows of the table for one size."""
    graph = graph_of(repeat)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "gradient.pt"
        found = np.array([[launch(way, repeat, file) for way in WAYS] for _ in range(rounds)])
    megabytes, seconds = found[..., 0].max(0) / 1e6, found[..., 1]
    ratios = seconds / seconds[:, :1]
    return [
        (
            graph.n_nodes,
            graph.n_edges,
            f"blocks of {way} edges" if way.isdigit() else way,
            f"{megabytes[i]:.0f}",
            f"{megabytes[i] / megabytes[0]:.2f}",
            f"{seconds[:, i].min():.2f}",
            f"{np.median(seconds[:, i]):.2f}",
            f"{ratios[:, i].min():.2f}",
            f"{np.median(ratios[:, i]):.2f}",
        )
        for i, way in enumerate(WAYS)
    ]


def launch(way: str, repeat: int, file: Path) -> list[float]:
    """Bytes and processor seconds of a step in a process of its own."""
    command = [sys.executable, __file__, "--measure", way, "--repeat", str(repeat)]
    command += ["--gradient", str(file)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [float(word) for word in ended.stdout.split()]


def measure(way: str, repeat: int, file: Path) -> tuple[int, float]:
    """One step; the way `kept` leaves its gradient in `file`, others compare theirs."""
    graph = graph_of(repeat)
    potential = potential_of(way, graph)
    train_step(potential, graph_of(1, n_atoms=2))
    before, start = peak_memory(torch.device("cpu")), time.process_time()
    train_step(potential, graph)
    seconds = time.process_time() - start
    grown = peak_memory(torch.device("cpu")) - before
    gradient = torch.cat([p.grad.flatten() for p in potential.parameters() if p.grad is not None])
    if way == "kept":
        torch.save(gradient, file)
    expected = torch.load(file)
    assert (gradient - expected).abs().max() < SAME * expected.abs().max(), way
    return grown, seconds


def graph_of(repeat: int, *, n_atoms: int | None = None) -> AtomicGraph:
    """The largest crystal of the sample, repeated; or some atoms of it."""
    crystals = [atoms for atoms in iread(CRYSTALS, format="extxyz") if isinstance(atoms, Atoms)]
    atoms = max(crystals, key=len).repeat(repeat)
    return graph_from_atoms(atoms[:n_atoms], cutoff=BackboneConfig().cutoff)


def potential_of(way: str, graph: AtomicGraph) -> MultiHeadPotential:
    """The default architecture with one head for the crystal's elements."""
    symbols = [chemical_symbols[int(z)] for z in graph.atomic_numbers.unique()]
    head = HeadConfig(
        level_of_theory="of the sample",
        reference_energies=dict.fromkeys(symbols, 0.0),
        scales=dict.fromkeys(symbols, 1.0),
    )
    potential = build_potential(BackboneConfig(), {"crystals": head})
    if way.isdigit():
        potential.backbone.recompute_in_blocks(int(way))
    if way == "torch.utils.checkpoint":
        for interaction in potential.backbone.interactions:
            wrap(interaction)
    return potential


def wrap(interaction: nn.Module) -> None:
    """Let torch keep the inputs of an interaction alone, and compute the rest again."""
    interaction.forward = partial(
        checkpoint, interaction.forward, use_reentrant=False, preserve_rng_state=False
    )


def train_step(potential: MultiHeadPotential, graph: AtomicGraph) -> None:
    """Gradient of a loss of energies and forces."""
    potential.zero_grad()
    prediction = predict(potential, graph, "crystals", create_graph=True)
    wanted = torch.sin(torch.arange(prediction.forces.numel())).view_as(prediction.forces)
    energy = (prediction.energy / graph.n_nodes).square().sum()
    (energy + (prediction.forces - wanted).square().mean()).backward()


if __name__ == "__main__":
    main()
