"""Training steps beside MACE, NequIP and SevenNet: structures per second.

    python benchmarks/training.py [--rounds N] [--threads N] [--models NAME …] [--batches NAME …]
        [--allocators kept stock]

Installs each peer from PyPI into an environment of its own (build/peers/, minutes, once). A step is
what the trainer of each does with a batch: graphs (collated where its trainer keeps them ready,
neighbours included where it searches them every time), energies and forces, loss, gradient of all
weights, Adam; see peers/*_peer.py. The published shapes, random weights of the batch's elements,
float32. Batches are 8 aspirin molecules of rMD17, and 4 boxes of 32 copper atoms. In every round
each model has a turn of 0.2 s or one step, in a process of its own and one after the other; ratios
are of the same round. With one thread times are of the processor, with several of the clock.
Everything is done twice, with glibc's allocator keeping pages and as it is, for all models alike.

Prints the table for RESULTS.md and draws docs/training-peers.png.
"""

import argparse
from pathlib import Path

import torch
from machine import describe_machine
from peers.interleaving import MODELS, OURS, time_in_turn
from peers.report import plot_ratios, quantities
from peers.structures import BATCHES

DOCS = Path(__file__).parents[1] / "docs"
ALLOCATORS = ["kept", "stock"]
DEFAULT = [name for name in MODELS if name != "NequIP 32"]
"""Compiling its training takes many minutes in every process."""


def main() -> None:
    """Time, print, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="of every batch (7)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of a model (1)")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=DEFAULT)
    parser.add_argument(
        "--allocators", nargs="+", choices=["kept", "stock"], default=["kept", "stock"]
    )
    parser.add_argument("--batches", nargs="+", choices=BATCHES, default=list(BATCHES))
    options = parser.parse_args()
    names = list(dict.fromkeys([OURS, *options.models]))
    rounds, threads = options.rounds, options.threads
    torch.set_num_threads(threads)
    print(f"{describe_machine()}; {rounds} rounds\n", flush=True)
    measured = {}
    for allocator in options.allocators:
        found = time_in_turn(
            names, "step", options.batches, rounds=rounds, threads=threads, allocator=allocator
        )
        measured |= {(allocator, batch): times for batch, times in found.items()}
    print(quantities(measured, threads=threads, unit="structures/s"))
    plot_ratios(
        measured,
        DOCS / "training-peers.png",
        threads=threads,
        title="a training step: medians and range of the rounds",
    )


if __name__ == "__main__":
    main()
