"""What the demonstration does with its model: judge it, draw it, relax with it, run dynamics.

    python demo/use.py build/demo

reads build/demo/run and build/demo/hub/gfm-demo, writes figures and report.json beside them.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.filters import FrechetCellFilter
from ase.md.velocitydistribution import Stationary, ZeroRotation
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from gfm_models import checkpoint
from gfm_pretrain.data.extxyz import read_extxyz
from gfm_pretrain.data.store.manifest import MANIFEST
from gfm_pretrain.data.store.store import open_store
from gfm_pretrain.data.structure import LabelledStructure, to_atoms
from gfm_pretrain.report import error_table

from gfmcalc import GFMCalculator

MODEL = "hub/gfm-demo"
N_PARITY = 60
"""Structures of each test set in the parity plot."""

TIME_STEP = 0.5
"""fs."""

DURATION = 2000.0
"""fs of dynamics."""

TEMPERATURE = 300.0
"""K."""


def main() -> None:
    """Everything, in the order of the report."""
    root = Path(sys.argv[1])
    torch.set_num_threads(1)  # a molecule is too small to share
    training = checkpoint.read_training(root / MODEL)
    report: dict[str, Any] = {"errors": errors_of(training), "training": facts_of(training)}
    draw_parity(root, training)
    draw_learning_curves(root)
    report["relaxation"] = [relax_molecule(root / MODEL), relax_crystal(root / MODEL)]
    report["dynamics"] = run_dynamics(root)
    (root / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    say(report, training)
    print(f"\nreport and figures: {root}")


def errors_of(training: dict[str, Any]) -> dict[str, Any]:
    """Test errors of each head before and after training, and of predicting nothing."""
    return {
        head: {
            "before": facts["test_before"],
            "after": facts["test"],
            "baseline": facts["baseline"],
        }
        for head, facts in training["heads"].items()
    }


def facts_of(training: dict[str, Any]) -> dict[str, Any]:
    """How the model was trained."""
    return {key: training[key] for key in ("n_ranks", "steps", "wall_seconds", "seed")}


def relax_molecule(model: Path) -> dict[str, Any]:
    """Ethanol from its textbook geometry to the minimum of the coupled-cluster head."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = GFMCalculator(model, head="ccsdt_ethanol", default_dtype="float64")
    optimizer = BFGS(atoms, logfile=None)
    return relaxed("ethanol", "ccsdt_ethanol", atoms, optimizer, force_limit=0.01)


def relax_crystal(model: Path) -> dict[str, Any]:
    """Silicon, 4 % too small and sheared, atoms and cell together."""
    atoms = bulk("Si", cubic=True)
    strain = np.diag([0.96] * 3) + 0.01 * np.eye(3, k=1)
    atoms.set_cell(atoms.cell @ strain, scale_atoms=True)
    atoms.rattle(0.05, seed=0)
    atoms.calc = GFMCalculator(model, head="mlearn", default_dtype="float64")
    optimizer = BFGS(FrechetCellFilter(atoms), logfile=None)  # pyright: ignore[reportArgumentType] (ASE takes filters)
    found = relaxed("silicon", "mlearn", atoms, optimizer, force_limit=0.02)
    return found | {"lattice_constant_angstrom": float(atoms.get_volume() ** (1 / 3))}


def relaxed(
    name: str, head: str, atoms: Atoms, optimizer: BFGS, *, force_limit: float
) -> dict[str, Any]:
    """Relax and say where it ended."""
    start = atoms.get_potential_energy()
    converged = bool(optimizer.run(fmax=force_limit, steps=300))
    return {
        "structure": name,
        "head": head,
        "converged": converged,
        "steps": optimizer.nsteps,
        "energy_start_ev": start,
        "energy_ev": atoms.get_potential_energy(),
        "largest_force_ev_per_angstrom": float(np.abs(atoms.get_forces()).max()),
    }


def run_dynamics(root: Path) -> dict[str, Any]:
    """Ethanol at constant energy, from thermal velocities: drift of its energy, and a picture."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = GFMCalculator(root / MODEL, head="rmd17")
    BFGS(atoms, logfile=None).run(fmax=0.02, steps=200)
    heat(atoms, 2 * TEMPERATURE)  # of which half goes into the potential energy
    dynamics = VelocityVerlet(atoms, timestep=TIME_STEP * units.fs)
    samples: list[list[float]] = []
    dynamics.attach(
        lambda: samples.append(
            [
                dynamics.get_time() / units.fs,
                atoms.get_total_energy() / len(atoms),
                temperature_of(atoms),
            ]
        ),
        interval=10,
    )
    dynamics.run(round(DURATION / TIME_STEP))
    times, energies, temperatures = np.array(samples).T
    draw_dynamics(root, times, energies, temperatures)
    return {
        "structure": "ethanol",
        "head": "rmd17",
        "picoseconds": DURATION / 1000,
        "time_step_fs": TIME_STEP,
        "mean_temperature_k": float(temperatures.mean()),
        "drift_mev_per_atom": drift_of(times, energies),
        "largest_deviation_mev_per_atom": float(1e3 * np.abs(energies - energies[0]).max()),
    }


def heat(atoms: Atoms, temperature: float) -> None:
    """Random velocities of exactly this temperature (K), at rest as a whole and not turning."""
    generator = np.random.default_rng(0)
    spread = np.sqrt(units.kB * temperature * atoms.get_masses())[:, None]
    atoms.set_momenta(spread * generator.normal(size=(len(atoms), 3)))
    Stationary(atoms)
    ZeroRotation(atoms)
    atoms.set_momenta(atoms.get_momenta() * np.sqrt(temperature / temperature_of(atoms)))


def temperature_of(atoms: Atoms) -> float:
    """Temperature (K) of a molecule that neither moves nor turns as a whole."""
    return 2 * float(atoms.get_kinetic_energy()) / ((3 * len(atoms) - 6) * units.kB)


def drift_of(times: np.ndarray, energies: np.ndarray) -> float:
    """Change of a straight line through the energies over the whole run, meV per atom."""
    slope = np.polyfit(times, energies, 1)[0]
    return float(1e3 * slope * (times[-1] - times[0]))


def draw_parity(root: Path, training: dict[str, Any]) -> None:
    """Predicted against labelled force components of each head's test set."""
    heads = training["heads"]
    figure, axes = plt.subplots(1, len(heads), figsize=(3.2 * len(heads), 3.4))
    for axis, (head, facts) in zip(axes, heads.items(), strict=True):
        labels, predictions = force_pairs(root, head, facts["data"]["test"]["path"])
        limit = 1.05 * max(np.abs(labels).max(), np.abs(predictions).max())
        axis.plot([-limit, limit], [-limit, limit], color="0.7", linewidth=1)
        axis.plot(labels, predictions, ".", markersize=2, alpha=0.4)
        axis.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
        axis.set_xlabel("labelled force, eV/Å")
        axis.set_title(
            f"{head}\nMAE {1e3 * facts['test']['forces_mae']:.0f} meV/Å "
            f"(zero forces: {1e3 * facts['baseline']['forces_mae']:.0f})",
            fontsize=9,
        )
    axes[0].set_ylabel("predicted force, eV/Å")
    figure.tight_layout()
    figure.savefig(root / "parity.png", dpi=130)


def force_pairs(root: Path, head: str, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Labelled and predicted force components of some test structures."""
    structures = test_structures(Path(path))
    structures = structures[:: max(1, len(structures) // N_PARITY)]
    calculator = GFMCalculator(root / MODEL, head=head)
    labels, predictions = [], []
    for structure in structures:
        atoms = to_atoms(structure)
        labels.append(atoms.get_forces().ravel())
        atoms.calc = calculator
        predictions.append(atoms.get_forces().ravel())
    return np.concatenate(labels), np.concatenate(predictions)


def test_structures(path: Path) -> list[LabelledStructure]:
    """Those of a file, or of the store whose manifest it is."""
    if path.name == MANIFEST:
        return list(open_store(path.parent).splits["test"].structures())
    return read_extxyz(path)[0]


def draw_learning_curves(root: Path) -> None:
    """Loss of each head, averaged over neighbouring steps, against the step."""
    lines = (root / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [record for record in map(json.loads, lines) if record["kind"] == "train"]
    figure, axis = plt.subplots(figsize=(6, 4))
    for head in dict.fromkeys(head for record in records for head in record["losses"]):
        of_head = [record for record in records if head in record["losses"]]
        width = max(1, len(of_head) // 50)
        losses = np.array([record["losses"][head] for record in of_head])
        smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
        axis.semilogy([record["step"] for record in of_head[width - 1 :]], smooth, label=head)
    axis.set(xlabel="step", ylabel="loss")
    axis.legend()
    figure.tight_layout()
    figure.savefig(root / "learning_curves.png", dpi=130)


def draw_dynamics(
    root: Path, times: np.ndarray, energies: np.ndarray, temperatures: np.ndarray
) -> None:
    """Total energy and temperature against time."""
    figure, (upper, lower) = plt.subplots(2, 1, sharex=True, figsize=(6, 4.5))
    upper.plot(times / 1000, 1e3 * (energies - energies[0]))
    upper.set_ylabel("total energy change,\nmeV/atom")
    lower.plot(times / 1000, temperatures, color="tab:red")
    lower.set(xlabel="time, ps", ylabel="temperature, K")
    figure.tight_layout()
    figure.savefig(root / "dynamics.png", dpi=130)


def say(report: dict[str, Any], training: dict[str, Any]) -> None:
    """Print the report for a person."""
    rows = {
        when: {head: errors[when] for head, errors in report["errors"].items()}
        for when in ("before", "after", "baseline")
    }
    print(f"\nErrors on the test sets after {training['wall_seconds']:.0f} s of training\n")
    print(error_table(rows))
    for found in report["relaxation"]:
        print(
            f"\nRelaxed {found['structure']} with head {found['head']}: "
            f"{found['energy_ev']:.4f} eV after {found['steps']} steps"
            + (
                f", lattice constant {found['lattice_constant_angstrom']:.3f} Å"
                if "lattice_constant_angstrom" in found
                else ""
            )
        )
    dynamics = report["dynamics"]
    print(
        f"\n{dynamics['picoseconds']:.0f} ps of constant-energy dynamics of "
        f"{dynamics['structure']} at {dynamics['mean_temperature_k']:.0f} K with head "
        f"{dynamics['head']}: the total energy drifts "
        f"{dynamics['drift_mev_per_atom']:+.4f} meV/atom"
    )


if __name__ == "__main__":
    main()
