"""What simulations need of the calculator as it is by default: conserved energy, and phonons.

Every bound is shown to be broken by a small fault.
"""

import gzip
import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.io import iread, write
from ase.md.verlet import VelocityVerlet
from gfm_models.backbone import BackboneConfig
from gfm_pretrain.config import RunConfig
from gfm_pretrain.head_options import HeadOptions
from gfm_pretrain.process import open_world
from gfm_pretrain.train import pretrain
from gfm_pretrain.training_options import TrainingOptions
from jaxtyping import Float
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

import gfmcalc.calculator
from gfmcalc import GFMCalculator

CRYSTALS = Path(__file__).resolve().parents[2] / "data" / "mlearn" / "train.extxyz.gz"
LATTICE_CONSTANT = 5.469
"""Å; of silicon with PBE."""
LARGEST_DRIFT = 0.1
"""meV/atom in 10 ps."""
LARGEST_DIFFERENCE = 0.05
"""THz."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny potential that has seen silicon for some seconds."""
    folder = tmp_path_factory.mktemp("silicon")
    text = gzip.decompress(CRYSTALS.read_bytes()).decode()
    frames = [atoms for atoms in iread(io.StringIO(text), format="extxyz") if 14 in atoms.numbers]
    write(folder / "train.extxyz", frames[::4])
    head = HeadOptions(
        train=str(folder / "train.extxyz"), level_of_theory="PBE", batch_size=2, width=16
    )
    config = RunConfig(
        run=str(folder / "run"),
        device="cpu",
        model=BackboneConfig(
            channels=8, cutoff=4.5, n_radial=6, radial_hidden=(16,), element_channels=4
        ),
        heads={"pbe": head},
        training=TrainingOptions(steps=100, warmup_steps=5, learning_rate=0.02, ema_decay=0.9),
    )
    with open_world(device="cpu") as world:
        return pretrain(config, world)


@pytest.fixture
def fast(model: Path) -> GFMCalculator:
    return GFMCalculator(model, device="cpu")


def silicon(repeat: int) -> Atoms:
    return bulk("Si", a=LATTICE_CONSTANT, cubic=True) * (repeat, repeat, repeat)


def drift(calculator: GFMCalculator, *, steps: int) -> float:
    """Of the total energy at about 300 K, meV/atom in 10 ps, of steps of 1 fs."""
    atoms = silicon(2)
    atoms.calc = calculator
    spread = np.sqrt(2 * units.kB * 300.0 * atoms.get_masses())[:, None]
    atoms.set_momenta(spread * np.random.default_rng(0).normal(size=(len(atoms), 3)))
    dynamics = VelocityVerlet(atoms, timestep=units.fs)
    energies: list[float] = []
    dynamics.attach(lambda: energies.append(1000 * atoms.get_total_energy() / len(atoms)))
    dynamics.run(steps)
    assert np.abs(atoms.positions - silicon(2).positions).max() > 0.1
    return float(np.polyfit(np.arange(len(energies)) / 1e4, energies, 1)[0])


@pytest.mark.slow
def test_dynamics_keeps_the_energy(fast: GFMCalculator) -> None:
    assert fast.backend == "fused"
    assert abs(drift(fast, steps=1000)) < LARGEST_DRIFT


def test_dynamics_loses_the_energy_without_far_neighbors(
    fast: GFMCalculator, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorter = partial(gfmcalc.calculator.graph_from_atoms, cutoff=3.87)  # the second neighbours
    monkeypatch.setattr(
        gfmcalc.calculator, "graph_from_atoms", lambda atoms, cutoff: shorter(atoms)
    )
    assert abs(drift(fast, steps=100)) > LARGEST_DRIFT


def frequencies(calculator: GFMCalculator) -> Float[np.ndarray, "points modes"]:
    """THz, on a mesh of a supercell of 64 atoms; no sum rule is imposed."""
    cell = silicon(1)
    phonons = Phonopy(
        PhonopyAtoms(symbols=list(cell.symbols), cell=cell.cell.array, positions=cell.positions),
        supercell_matrix=2 * np.eye(3, dtype=int),
        primitive_matrix="F",
    )
    phonons.generate_displacements(distance=0.01)
    supercells: Any = phonons.supercells_with_displacements
    phonons.forces = [forces(supercell, calculator) for supercell in supercells]
    phonons.produce_force_constants()
    phonons.run_qpoints(np.array(list(np.ndindex(4, 4, 4))) / 4)
    assert phonons.qpoints is not None
    return phonons.qpoints.frequencies


def forces(cell: PhonopyAtoms, calculator: GFMCalculator) -> Float[np.ndarray, "atoms 3"]:
    atoms = Atoms(cell.symbols, cell=cell.cell, positions=cell.positions, pbc=True)
    calculator.calculate(atoms)
    return calculator.results["forces"]


@pytest.fixture
def exact(model: Path) -> Float[np.ndarray, "points modes"]:
    """Of the same weights in float64 on the slow back end."""
    calculator = GFMCalculator(model, device="cpu", default_dtype="float64")
    calculator.potential.backbone.backend = "reference"
    return frequencies(calculator)


def test_phonons_are_those_of_the_reference(
    fast: GFMCalculator, exact: Float[np.ndarray, "points modes"]
) -> None:
    assert exact.min() > -0.01  # a crystal that is stable, as stiff as silicon is
    assert 10.0 < exact.max() < 20.0
    assert np.abs(frequencies(fast) - exact).max() < LARGEST_DIFFERENCE


class Rounding(GFMCalculator):
    """Forces to 1e-4 eV/Å."""

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        super().calculate(*args, **kwargs)
        self.results["forces"] = self.results["forces"].round(4)


def test_phonons_notice_rounded_forces(
    model: Path, exact: Float[np.ndarray, "points modes"]
) -> None:
    found = frequencies(Rounding(model, device="cpu"))
    assert np.abs(found - exact).max() > LARGEST_DIFFERENCE
