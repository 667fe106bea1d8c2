"""Phonons of the fast path in float32 beside those of the reference in float64."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from gfm_pretrain.table import markdown_table
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from peers.report import COLORS
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms
from physics_model import Model

mpl.use("Agg")
PICTURE = Path(__file__).parents[1] / "docs" / "phonons.png"
LIMIT = 0.05
"""THz."""
DISPLACEMENT = 0.01
"""Å."""
MESH = 8
"""Points along each reciprocal vector, Γ among them."""


@dataclass(frozen=True, kw_only=True)
class Crystal:
    """Face-centred cubic, two atoms."""

    name: str
    symbols: str
    make: Callable[[], Atoms]
    measured: float
    """THz; the transverse optical modes at Γ, at 300 K."""


CRYSTALS = (
    Crystal(  # PBE's lattice constant; 520 cm⁻¹ of Parker et al., Phys. Rev. 155, 712 (1967)
        name="Si",
        symbols="Si",
        make=lambda: bulk("Si", a=5.469, cubic=True),
        measured=15.6,
    ),
    Crystal(  # PBEsol's, of the data; 401 cm⁻¹ of Jasperse et al., Phys. Rev. 146, 526 (1966)
        name="MgO",
        symbols="Mg O",
        make=lambda: bulk("MgO", "rocksalt", a=4.2177, cubic=True),
        measured=12.0,
    ),
)

Q_MESH = np.stack(np.meshgrid(*3 * [np.arange(MESH) / MESH], indexing="ij"), -1).reshape(-1, 3)
CORNERS = {
    "Γ": (0.0, 0.0, 0.0),
    "X": (0.5, 0.0, 0.5),
    "U": (0.625, 0.25, 0.625),
    "K": (0.375, 0.375, 0.75),
    "L": (0.5, 0.5, 0.5),
}
LINES = ("ΓX", "XU", "KΓ", "ΓL")
"""U and K are the same but for a reciprocal vector."""
N_LINE = 50
RECIPROCAL = np.ones((3, 3)) - 2 * np.eye(3)
"""Vectors of the primitive reciprocal cell in 2π over the edge of the cubic cell."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Frequencies:
    """THz, rising at every point; imaginary ones negative."""

    mesh: Float[np.ndarray, "points modes"]
    lines: Float[np.ndarray, "lines points modes"]


def compare_phonons(model: Model, *, repeat: int) -> None:
    """The table and the picture."""
    rows, drawn = [], {}
    for crystal in CRYSTALS:
        head = model.head(crystal.symbols)
        if head is None:
            print(f"\n{crystal.name} is left out: no head knows {crystal.symbols}")
            continue
        fast, exact = model.calculator(head), model.calculator(head, "float64")
        exact.potential.backbone.backend = "reference"
        one, other = (
            frequencies(crystal.make(), calculator, repeat) for calculator in (fast, exact)
        )
        n_atoms = repeat**3 * len(crystal.make())
        rows.append((crystal.name, head, n_atoms, fast.backend, *row(one, other, crystal.measured)))
        drawn[crystal.name] = (one, other)
    print(f"\n{markdown_table(HEADER, rows)}", flush=True)
    if drawn:
        plot(drawn)


def frequencies(atoms: Atoms, calculator: Calculator, repeat: int) -> Frequencies:
    """By finite displacements in a supercell, without imposing sum rules or symmetries."""
    cell = PhonopyAtoms(
        symbols=list(atoms.symbols), cell=atoms.cell.array, positions=atoms.positions
    )
    phonons = Phonopy(cell, supercell_matrix=np.diag(3 * [repeat]), primitive_matrix="F")
    phonons.generate_displacements(distance=DISPLACEMENT)
    supercells = phonons.supercells_with_displacements
    assert supercells is not None
    phonons.forces = [forces(moved, calculator) for moved in supercells]
    phonons.produce_force_constants()
    lines = [np.linspace(CORNERS[a], CORNERS[b], N_LINE) for a, b in LINES]
    return Frequencies(
        mesh=at_points(phonons, Q_MESH),
        lines=np.stack([at_points(phonons, points) for points in lines]),
    )


def forces(cell: PhonopyAtoms, calculator: Calculator) -> Float[np.ndarray, "atoms 3"]:
    """eV/Å."""
    atoms = Atoms(cell.symbols, cell=cell.cell, positions=cell.positions, pbc=True)
    atoms.calc = calculator
    return atoms.get_forces()


def at_points(
    phonons: Phonopy, points: Float[np.ndarray, "points 3"]
) -> Float[np.ndarray, "points modes"]:
    """Frequencies in THz at some points of reciprocal space."""
    phonons.run_qpoints(points)
    assert phonons.qpoints is not None
    return phonons.qpoints.frequencies


HEADER = (
    *("crystal", "head", "atoms", "back end", "optical Γ THz", "measured"),
    *("lowest", "highest", "largest difference THz", "rms", f"within {LIMIT:g}"),
)


def row(fast: Frequencies, exact: Frequencies, measured: float) -> tuple[str, ...]:
    """The cells after the back end."""
    every = np.concatenate([exact.mesh.ravel(), exact.lines.ravel()])
    away = np.concatenate([fast.mesh.ravel(), fast.lines.ravel()]) - every
    largest = np.abs(away).max()
    return (
        f"{exact.lines[0, 0, 3]:.2f}",
        f"{measured:.1f}",
        f"{every.min():.3f}",
        f"{every.max():.2f}",
        f"{largest:.5f}",
        f"{np.sqrt(np.mean(away**2)):.5f}",
        "yes" if largest < LIMIT else "NO",
    )


def plot(drawn: Mapping[str, tuple[Frequencies, Frequencies]]) -> None:
    """Both dispersions."""
    figure = Figure(figsize=(4.2 * len(drawn), 3.6), layout="constrained")
    panels, shown = figure.subplots(1, len(drawn), squeeze=False)[0], []
    for axes, (name, (fast, exact)) in zip(panels, drawn.items(), strict=True):
        shown = [
            draw(axes, exact, color=COLORS[4], linewidth=2.5, label="reference, float64"),
            draw(axes, fast, color=COLORS[0], linestyle=":", label="fast path, float32"),
        ]
        axes.set_title(name)
        axes.set_ylim(bottom=min(0.0, float(exact.lines.min())))
    panels[0].set_ylabel("frequency / THz")
    figure.legend(handles=shown, ncols=2, fontsize=8, loc="outside lower center", frameon=False)
    figure.savefig(PICTURE, dpi=150)


def draw(axes: Axes, found: Frequencies, **style: Any) -> Line2D:
    """Along the lines, each as long as it is in reciprocal space; one of what was drawn."""
    start, ticks, drawn = 0.0, {0.0: "Γ"}, []
    for (a, b), values in zip(LINES, found.lines, strict=True):
        length = float(np.linalg.norm((np.array(CORNERS[b]) - CORNERS[a]) @ RECIPROCAL))
        drawn += axes.plot(start + np.linspace(0, length, N_LINE), values, **style)
        start += length
        ticks[start] = "U|K" if b == "U" else b
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.grid(axis="x", color="0.8")
    axes.set_xlim(0, start)
    return drawn[0]
