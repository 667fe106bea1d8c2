"""Energies, forces and stress beside MACE, NequIP and SevenNet: time and memory.

    python benchmarks/inference.py [--rounds N] [--threads N] [--models NAME …] [--systems NAME …]
        [--allocators kept stock] [--only speed|memory]

Installs each peer from PyPI into an environment of its own (build/peers/, minutes, once). All have
random weights of the published shapes and 89 elements, are in float32, and are asked through their
own ASE calculators for structures whose atoms move at every call; see peers/*_peer.py. In every
round each model has a turn of 0.2 s or one call, in a process of its own and one after the other;
ratios are of the same round. With one thread times are of the processor, with several of the
clock. Everything is done twice, with glibc's allocator keeping pages and as it is, for all models
alike.

Memory is the most that a process held that computed one system three times, pages kept. Large
systems are in benchmarks/physics.py.

Prints the tables for RESULTS.md and draws docs/inference-peers.png.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from gfm_pretrain.table import markdown_table
from machine import describe_machine
from peers.allocator import Allocator
from peers.interleaving import MODELS, OURS, Times, running, time_in_turn
from peers.report import plot_ratios, quantities
from peers.structures import SYSTEMS

DOCS = Path(__file__).parents[1] / "docs"
ALLOCATORS = ["kept", "stock"]
DEFAULT = [name for name in MODELS if name != "NequIP 32 eager"]
"""Of NequIP S the eager model is there to show what compiling is worth."""
MEMORY_SYSTEMS = ("aspirin", "64 H2O", "Si 1000")
CALLS = 3


def main() -> None:
    """Time, print, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="of every system (7)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of a model (1)")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=DEFAULT)
    parser.add_argument(
        "--allocators", nargs="+", choices=["kept", "stock"], default=["kept", "stock"]
    )
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--only", choices=["speed", "memory"], help="one of the two parts")
    options = parser.parse_args()
    names = list(dict.fromkeys([OURS, *options.models]))
    torch.set_num_threads(options.threads)
    print(describe_machine(), flush=True)
    if options.only in (None, "speed"):
        compare(
            names,
            options.systems,
            allocators=options.allocators,
            rounds=options.rounds,
            threads=options.threads,
        )
    if options.only in (None, "memory"):
        systems = [name for name in options.systems if name in MEMORY_SYSTEMS]
        print(f"\n{memory_table(names, systems, threads=options.threads)}", flush=True)


def compare(
    names: Sequence[str],
    systems: Sequence[str],
    *,
    allocators: Sequence[Allocator],
    rounds: int,
    threads: int,
) -> None:
    """The table of times, and its plot."""
    measured: dict[tuple[Allocator, str], Times] = {}
    for allocator in allocators:
        found = time_in_turn(
            names, "call", systems, rounds=rounds, threads=threads, allocator=allocator
        )
        measured |= {(allocator, system): times for system, times in found.items()}
    print(f"{rounds} rounds\n\n{quantities(measured, threads=threads, unit='µs/atom')}", flush=True)
    plot_ratios(
        measured,
        DOCS / "inference-peers.png",
        threads=threads,
        title="energies, forces and stress: medians and range of the rounds",
    )


def memory_table(names: Sequence[str], systems: Sequence[str], *, threads: int) -> str:
    """Peak memory of a process, and how much of it came with the calls."""
    rows = []
    for system in systems:
        peaks = {name: memory_of(name, system, threads=threads) for name in names}
        for name, (peak, before) in peaks.items():
            share = f"{peaks[OURS][0] / peak:.2f}"
            rows.append((system, name, f"{peak:.0f}", f"{peak - before:.0f}", share))
    return markdown_table(("system", "model", "peak MB", "of calls MB", "ours / model"), rows)


def memory_of(name: str, system: str, *, threads: int) -> tuple[float, float]:
    """Peak megabytes after some calls, and megabytes when the model had just been loaded."""
    with running(name, threads=threads, allocator="kept") as worker:
        before = worker.ask("load")["VmRSS"]
        for _ in range(CALLS):
            worker.ask("call", system)
        return worker.ask("memory")["VmHWM"], before


if __name__ == "__main__":
    main()
