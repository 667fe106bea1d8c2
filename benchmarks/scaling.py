"""Cost of energies, forces and stress against the number of atoms.

    python benchmarks/scaling.py MODEL HEAD SYSTEM N --threads N --memory-limit GB

is what runs in a process of its own for one size: it prints one line of JSON.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from gfm_pretrain.table import markdown_table
from matplotlib.figure import Figure
from peers.report import COLORS
from peers.structures import Moving, water
from peers.worker import PROPERTIES, memory, timed
from physics_model import Model

from gfmcalc import GFMCalculator

mpl.use("Agg")
PICTURE = Path(__file__).parents[1] / "docs" / "scaling.png"
CALLS = 3
"""The fastest counts."""
OUT_OF_MEMORY = 3
"""How the process ends where the limit is reached; where the system's own is, it is killed."""


@dataclass(frozen=True, kw_only=True)
class System:
    """A periodic box that can be had in many sizes."""

    symbols: str
    make: Callable[[int], Atoms]
    """From units along an edge."""
    atoms_per_unit: int
    sides: Sequence[int]


SYSTEMS = {
    "water": System(symbols="H O", make=water, atoms_per_unit=3, sides=(4, 7, 12, 20, 33)),
    "Ni": System(
        symbols="Ni",
        make=lambda side: bulk("Ni", a=3.52, cubic=True) * (side, side, side),
        atoms_per_unit=4,
        sides=(4, 6, 11, 18, 30),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one size."""

    atoms: int
    seconds: float
    """Of a call, neighbour list included: of the processor with one thread, else of the clock."""
    before: float
    """MB resident when the model and the structure were there."""
    peak: float
    """MB, the most that was resident."""
    backend: str


def scale(model: Model, *, most: int, threads: int, memory_limit: float) -> None:
    """The table, the exponents, and the picture."""
    rows, drawn = [], {}
    for name, system in SYSTEMS.items():
        head = model.head(system.symbols)
        if head is None:
            print(f"\n{name} is left out: no head knows {system.symbols}")
            continue
        found: list[Cost] = []
        for side in system.sides:
            n_atoms = system.atoms_per_unit * side**3
            if n_atoms > most:
                break
            cost = measure(model, head, name, side, threads=threads, memory_limit=memory_limit)
            if cost is None:
                rows.append((name, n_atoms, *3 * "-", f"more than {1e3 * memory_limit:g}", "-"))
                break
            found.append(cost)
            rows.append((name, *row(cost)))
        drawn[name] = found
    print(f"\n{markdown_table(HEADER, rows)}", flush=True)
    if exponents := fits(drawn):
        print(f"\n{markdown_table(FIT, exponents)}", flush=True)
    if any(drawn.values()):
        plot(drawn)


def measure(
    model: Model, head: str, name: str, side: int, *, threads: int, memory_limit: float
) -> Cost | None:
    """In a fresh process; None where it needs more memory than it may have."""
    command = [sys.executable, __file__, str(model.folder), head, name, str(side)]
    command += ["--threads", str(threads), "--memory-limit", str(memory_limit)]
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if ended.returncode in (OUT_OF_MEMORY, -signal.SIGKILL):
        return None
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{ended.stderr}")
    return Cost(**json.loads(ended.stdout.splitlines()[-1]))


HEADER = ("system", "atoms", "back end", "µs/atom", "s", "peak MB", "kB/atom above the model's")


def row(cost: Cost) -> tuple[str, ...]:
    """The cells after the system."""
    return (
        str(cost.atoms),
        cost.backend,
        f"{1e6 * cost.seconds / cost.atoms:.0f}",
        f"{cost.seconds:.3g}",
        f"{cost.peak:.0f}",
        f"{1e3 * (cost.peak - cost.before) / cost.atoms:.1f}",
    )


FIT = ("system", "atoms", "time ∝ atoms^", "memory above the model's ∝ atoms^")


def fits(drawn: Mapping[str, Sequence[Cost]]) -> list[tuple[str, ...]]:
    """Exponents of straight lines through logarithms."""
    rows = []
    for name, costs in drawn.items():
        if len(costs) < 2:
            continue
        atoms = np.array([cost.atoms for cost in costs])
        series = ([cost.seconds for cost in costs], [cost.peak - cost.before for cost in costs])
        exponents = [np.polyfit(np.log(atoms), np.log(values), 1)[0] for values in series]
        rows.append((name, f"{atoms[0]}–{atoms[-1]}", *(f"{value:.3f}" for value in exponents)))
    return rows


def plot(drawn: Mapping[str, Sequence[Cost]]) -> None:
    """Time per atom and memory, on logarithmic axes of whole decades."""
    figure = Figure(figsize=(8.0, 3.6), layout="constrained")
    time, space = figure.subplots(1, 2)
    for (name, costs), color, marker in zip(drawn.items(), COLORS, "os", strict=False):
        style: dict[str, Any] = {"color": color, "marker": marker, "label": name}
        atoms = np.array([cost.atoms for cost in costs])
        time.plot(atoms, 1e6 * np.array([cost.seconds for cost in costs]) / atoms, **style)
        space.plot(atoms, [cost.peak / 1e3 for cost in costs], **style)
    time.set_ylabel("time per atom / µs")
    space.set_ylabel("peak memory of the process / GB")
    for axes in (time, space):
        axes.set(xscale="log", yscale="log", xlabel="atoms", xlim=(1e2, 2e5))
        axes.yaxis.set_major_formatter("{x:g}")
        low, high = np.log10(axes.get_ylim())
        axes.set_ylim(10 ** np.floor(low), 10 ** np.ceil(high))
        axes.grid(alpha=0.3)
    time.legend(frameon=False)
    figure.savefig(PICTURE, dpi=150)


def main() -> None:
    """One size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("head")
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("side", type=int)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--memory-limit", type=float, metavar="GB", required=True)
    options = parser.parse_args()
    limit = int(1e9 * options.memory_limit)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    torch.set_num_threads(options.threads)
    try:
        print(json.dumps(asdict(cost_here(options))))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        sys.exit(OUT_OF_MEMORY)


def cost_here(options: argparse.Namespace) -> Cost:
    """In this process."""
    calculator = GFMCalculator(options.model, head=options.head, device="cpu")
    make = SYSTEMS[options.system].make
    calculator.calculate(make(1), PROPERTIES)  # what is compiled and loaded once
    moving = Moving(make(options.side))
    before = memory()["VmRSS"]
    calls = [timed(lambda: calculator.calculate(moving.move(), PROPERTIES)) for _ in range(CALLS)]
    return Cost(
        atoms=len(moving.atoms),
        seconds=min(call["cpu" if options.threads == 1 else "wall"] for call in calls),
        before=before,
        peak=memory()["VmHWM"],
        backend=calculator.backend,
    )


if __name__ == "__main__":
    main()
