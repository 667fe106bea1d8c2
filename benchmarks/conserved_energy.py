"""Drift of the total energy in dynamics that conserve it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.md.velocitydistribution import Stationary, ZeroRotation
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from gfm_pretrain.table import markdown_table
from jaxtyping import Float
from matplotlib.figure import Figure
from peers.report import COLORS
from physics_model import Model

mpl.use("Agg")
PICTURE = Path(__file__).parents[1] / "docs" / "nve.png"
LIMIT = 0.1
"""meV/atom in 10 ps."""
PRECISIONS: tuple[Literal["float32", "float64"], ...] = ("float32", "float64")
STYLES: tuple[dict[str, Any], ...] = (
    {"color": COLORS[0], "linewidth": 1.0, "linestyle": "--", "zorder": 3},
    {"color": COLORS[4], "linewidth": 2.5},
)
"""Of the precisions."""
N_BLOCKS = 20
"""Of a run; one is much longer than a vibration."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What moves."""

    name: str
    symbols: str
    make: Callable[[], Atoms]
    temperature: float
    """K, roughly that of the run, which starts in a minimum with twice as much."""
    step: float
    """fs."""


def silicon(temperature: float) -> Case:
    """64 atoms."""
    return Case(
        name=f"Si 64, {temperature:g} K",
        symbols="Si",
        make=lambda: bulk("Si", cubic=True) * (2, 2, 2),
        temperature=temperature,
        step=1.0,
    )


CASES = (
    silicon(300.0),
    silicon(600.0),
    Case(
        name="ethanol, 300 K",
        symbols="C H O",
        make=lambda: molecule("CH3CH2OH"),
        temperature=300.0,
        step=0.5,
    ),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """What was seen after every step."""

    times: Float[np.ndarray, " steps"]
    """ps."""
    energies: Float[np.ndarray, " steps"]
    """Total energy, meV/atom, from that of the start."""
    temperature: float
    """K, on average."""


def conserve(model: Model, *, picoseconds: float) -> None:
    """The table and the picture."""
    rows, drawn = [], {}
    for case in CASES:
        head = model.head(case.symbols)
        if head is None:
            print(f"\n{case.name} is left out: no head knows {case.symbols}")
            continue
        drawn[case.name] = {}
        for precision in PRECISIONS:
            atoms = case.make()
            atoms.calc = model.calculator(head, precision)
            run = move(atoms, case, picoseconds)
            rows.append((case.name, head, f"{case.step:g}", precision, *row(run)))
            drawn[case.name][precision] = run
    print(f"\n{markdown_table(HEADER, rows)}", flush=True)
    if drawn:
        plot(drawn)


def move(atoms: Atoms, case: Case, picoseconds: float) -> Run:
    """Velocity Verlet from a minimum, with random velocities."""
    BFGS(atoms, logfile=None).run(fmax=0.01, steps=300)
    spread = np.sqrt(2 * units.kB * case.temperature * atoms.get_masses())[:, None]
    atoms.set_momenta(spread * np.random.default_rng(0).normal(size=(len(atoms), 3)))
    Stationary(atoms)
    if not atoms.pbc.any():
        ZeroRotation(atoms)
    dynamics = VelocityVerlet(atoms, timestep=case.step * units.fs)
    seen: list[list[float]] = []
    dynamics.attach(
        lambda: seen.append(
            [dynamics.get_time(), atoms.get_total_energy(), float(atoms.get_kinetic_energy())]
        )
    )
    dynamics.run(round(1000 * picoseconds / case.step))
    times, energies, kinetic = np.array(seen).T
    n_free = 3 * len(atoms) - (3 if atoms.pbc.any() else 6)
    return Run(
        times=times / (1000 * units.fs),
        energies=1000 * (energies - energies[0]) / len(atoms),
        temperature=2 * float(kinetic.mean()) / (n_free * units.kB),
    )


HEADER = (
    *("system", "head", "step fs", "precision", "ps", "mean K"),
    *("drift meV/atom in 10 ps", "±", "fluctuation meV/atom", f"within {LIMIT:g}"),
)


def row(run: Run) -> tuple[str, ...]:
    """The cells after the precision."""
    drift, error, fluctuation = drift_of(run)
    return (
        f"{run.times[-1]:g}",
        f"{run.temperature:.0f}",
        f"{drift:+.4f}",
        f"{error:.4f}",
        f"{fluctuation:.4f}",
        "yes" if abs(drift) < LIMIT else "NO",
    )


def drift_of(run: Run) -> tuple[float, float, float]:
    """Slope and its standard error in meV/atom in 10 ps, and fluctuation in meV/atom.

    The slope is that of the straight line through all energies with the least squares. Energies
    that follow one another are alike, so that its error is that of a line through averages over
    blocks. The fluctuation is the root mean square distance from the line.
    """
    slope, start = np.polyfit(run.times, run.energies, 1)
    times, energies = block_averages(run, N_BLOCKS)
    _, covariance = np.polyfit(times, energies, 1, cov=True)
    away = run.energies - slope * run.times - start
    return 10 * slope, 10 * float(np.sqrt(covariance[0, 0])), float(np.sqrt(np.mean(away**2)))


def block_averages(run: Run, n_blocks: int) -> list[Float[np.ndarray, " blocks"]]:
    """Of times and energies."""
    return [
        np.array([part.mean() for part in np.array_split(values, n_blocks)])
        for values in (run.times, run.energies)
    ]


def plot(drawn: Mapping[str, Mapping[str, Run]]) -> None:
    """Total energies, averaged over a hundredth of the run, against the time."""
    figure = Figure(figsize=(3.4 * len(drawn), 3.2), layout="constrained")
    panels = figure.subplots(1, len(drawn), sharey=True, squeeze=False)[0]
    for axes, (name, runs) in zip(panels, drawn.items(), strict=True):
        for (precision, run), style in zip(runs.items(), STYLES, strict=True):
            times, energies = block_averages(run, min(100, len(run.times)))
            axes.plot(times, energies - energies.mean(), label=precision, **style)
        end = next(iter(runs.values())).times[-1]
        middle = end / 2
        allowed = LIMIT / 10 * np.array([middle, 0.0, middle])
        axes.fill_between([0, middle, end], allowed, -allowed, color="0.9", label="drift allowed")
        axes.set(title=name, xlabel="time / ps", xlim=(0, end))
    panels[0].set_ylabel("total energy / (meV/atom)")
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        ncols=3,
        fontsize=8,
        loc="outside lower center",
        frameon=False,
    )
    figure.savefig(PICTURE, dpi=150)
