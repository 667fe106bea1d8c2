"""The calculator under ASE: its physics, its refusals, and what users do with it."""

import copy
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.filters import FrechetCellFilter
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS, FIRE
from gfm_models import checkpoint
from gfm_models.backbone import BackboneConfig
from gfm_models.checkpoint import BACKBONE_FILE, CheckpointError, head_file
from gfm_models.heads import HeadConfig
from gfm_models.potential import build_potential

import gfmcalc.calculator
from gfmcalc import GFMCalculator

E0 = {"H": -13.6, "C": -38.1, "N": -54.2, "O": -74.9}
ORGANIC = HeadConfig(
    level_of_theory="PBE/def2-SVP",
    reference_energies=E0,
    scales={"H": 0.7, "C": 1.3, "N": 1.2, "O": 1.1},
)
METALS = HeadConfig(
    level_of_theory="PBE, plane waves",
    reference_energies={"Ni": -0.3, "Cu": -0.2},
    scales={"Ni": 0.6, "Cu": 0.5},
)
STALE = HeadConfig(
    level_of_theory="HF", reference_energies={"H": -13.5}, scales={"H": 1.0}, stale=True
)
BACKBONE = BackboneConfig(
    channels=4,
    n_radial=4,
    radial_hidden=(6,),
    element_channels=4,
    cutoff=4.0,
    mean_neighbors=8.0,
    repulsion_reach=1.0,  # its wall is softer there, where random energies push atoms together
)
STEP = 1e-4
"""Å, or strain, of finite differences."""


def save_random(folder: Path, heads: dict[str, HeadConfig]) -> Path:
    """A checkpoint whose energies of interaction are a few eV."""
    potential = build_potential(BACKBONE, heads)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in potential.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    checkpoint.save(potential, folder, training={})
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a checkpoint of three heads."""
    folder = tmp_path_factory.mktemp("calculator")
    heads = {"organic": ORGANIC, "metals": METALS, "old": STALE}
    save_random(folder / "checkpoint", heads)
    return folder


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of one head."""
    return save_random(tmp_path_factory.mktemp("single"), {"organic": ORGANIC})


@pytest.fixture
def model(run: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint, to be damaged."""
    return shutil.copytree(run / "checkpoint", tmp_path / "model")


@pytest.fixture
def organic(run: Path) -> GFMCalculator:
    return GFMCalculator(run, head="organic", default_dtype="float64", device="cpu")


@pytest.fixture
def metals(run: Path) -> GFMCalculator:
    return GFMCalculator(run, head="metals", default_dtype="float64", device="cpu")


@pytest.fixture
def ethanol(organic: GFMCalculator) -> Atoms:
    return with_calculator(rattled(molecule("CH3CH2OH")), organic)


@pytest.fixture
def alloy(metals: GFMCalculator) -> Atoms:
    """Four atoms in a skewed cell that is smaller than the cutoff."""
    atoms = bulk("Cu", cubic=True)
    atoms.numbers[0] = 28
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.05 * np.eye(3, k=1)), scale_atoms=True)
    return with_calculator(rattled(atoms), metals)


@pytest.fixture
def slab(metals: GFMCalculator) -> Atoms:
    return with_calculator(rattled(fcc111("Cu", (1, 1, 3), vacuum=6.0)), metals)


def rattled(atoms: Atoms) -> Atoms:
    atoms.rattle(0.1, seed=0)
    return atoms


def with_calculator(atoms: Atoms, calculator: Any) -> Atoms:
    atoms.calc = calculator
    return atoms


def relative(found: Any, expected: Any) -> float:
    """Largest difference over the largest number expected."""
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


def all_finite(calculator: GFMCalculator) -> bool:
    return all(np.isfinite(value).all() for value in calculator.results.values())


@pytest.fixture
def n_predictions(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often the network was asked."""
    calls = []
    predict = gfmcalc.calculator.predict

    def counted(*args: Any) -> Any:
        calls.append(args)
        return predict(*args)

    monkeypatch.setattr(gfmcalc.calculator, "predict", counted)
    return lambda: len(calls)


# Physics.


@pytest.mark.parametrize("name", ["ethanol", "alloy", "slab"])
def test_energies_agree(name: str, request: pytest.FixtureRequest) -> None:
    atoms = request.getfixturevalue(name)
    energy = atoms.get_potential_energy()
    assert atoms.get_potential_energy(force_consistent=True) == energy
    assert atoms.get_potential_energies().shape == (len(atoms),)
    assert atoms.get_potential_energies().sum() == pytest.approx(energy, rel=1e-14)


@pytest.mark.parametrize("name", ["ethanol", "alloy", "slab"])
def test_forces_are_the_slope_of_the_energy(name: str, request: pytest.FixtureRequest) -> None:
    atoms = request.getfixturevalue(name)
    forces = atoms.get_forces()
    assert np.abs(forces).max() > 0.1
    assert relative(calculate_numerical_forces(atoms, eps=STEP), forces) < 1e-6


@pytest.mark.parametrize("name", ["alloy", "slab"])
def test_stress_is_the_slope_of_the_energy(name: str, request: pytest.FixtureRequest) -> None:
    atoms = request.getfixturevalue(name)
    stress = atoms.get_stress()
    assert stress.shape == (6,)
    assert np.abs(stress).max() > 1e-3
    assert relative(calculate_numerical_stress(atoms, eps=STEP), stress) < 1e-6


def test_the_back_end_is_told(organic: GFMCalculator) -> None:
    assert organic.backend == "fused"
    organic.potential.backbone.backend = "reference"
    assert organic.backend == "reference"


def test_stress_is_positive_under_tension(metals: GFMCalculator) -> None:
    atoms = with_calculator(bulk("Cu", a=2.0), metals)
    assert (atoms.get_stress()[:3] < 0).all()  # pressed together, it wants to grow


def test_two_far_copies_have_twice_the_energy(ethanol: Atoms) -> None:
    other = ethanol.copy()
    other.positions += [30.0, 0.0, 0.0]
    both = with_calculator(ethanol + other, ethanol.calc)
    expected = 2 * ethanol.get_potential_energy()
    assert both.get_potential_energy() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("sign", [1, -1], ids=["rotation", "reflection"])
@pytest.mark.parametrize("name", ["ethanol", "alloy"])
def test_turning_turns_forces_and_stress(
    name: str, sign: int, request: pytest.FixtureRequest
) -> None:
    atoms = request.getfixturevalue(name)
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    q *= sign * np.linalg.det(q)
    turned = atoms.copy()
    turned.positions = atoms.positions @ q.T
    turned.cell = atoms.cell.array @ q.T
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    stress = atoms.get_stress(voigt=False) if atoms.pbc.all() else None
    turned.calc = atoms.calc
    assert turned.get_potential_energy() == pytest.approx(energy, rel=1e-10)
    assert relative(turned.get_forces(), forces @ q.T) < 1e-10
    if stress is not None:
        assert relative(turned.get_stress(voigt=False), q @ stress @ q.T) < 1e-10


def test_shifting_and_wrapping_change_nothing(alloy: Atoms) -> None:
    energy, forces, stress = alloy.get_potential_energy(), alloy.get_forces(), alloy.get_stress()
    alloy.positions += [0.3, -17.0, 4.0]
    alloy.positions[1] += 2 * alloy.cell.array[0] - alloy.cell.array[2]
    assert alloy.get_potential_energy() == pytest.approx(energy, rel=1e-10)
    assert relative(alloy.get_forces(), forces) < 1e-10
    assert relative(alloy.get_stress(), stress) < 1e-10


@pytest.mark.parametrize("symbol", E0)
def test_an_atom_alone_has_its_reference_energy(symbol: str, organic: GFMCalculator) -> None:
    for atoms in (Atoms(symbol), Atoms(symbol, cell=[9.0] * 3, pbc=True)):
        atoms.calc = organic
        assert atoms.get_potential_energy() == E0[symbol]
        assert not atoms.get_forces().any()


@pytest.mark.parametrize(
    ("pair", "distance"), [("H2", 0.1), ("HO", 0.2), ("C2", 0.3), ("NO", 0.3), ("O2", 1e-3)]
)
def test_atoms_pressed_together_are_driven_apart(
    pair: str, distance: float, organic: GFMCalculator
) -> None:
    atoms = Atoms(pair, [[0.0, 0.0, 0.0], [0.0, 0.0, distance]], calculator=organic)
    forces = atoms.get_forces()
    assert forces[1, 2] > 50.0
    assert forces[0, 2] == pytest.approx(-forces[1, 2])
    assert atoms.get_potential_energy() > sum(E0[symbol] for symbol in atoms.symbols) + 10.0


NOTHING = Atoms()
BEYOND = Atoms("H2", [[0.0, 0.0, 0.0], [4.5, 0.0, 0.0]])
AT_CUTOFF = Atoms("H2", [[0.0, 0.0, 0.0], [4.0, 0.0, 0.0]])
TINY_CELL = Atoms("C", cell=[1.2, 1.3, 1.4], pbc=True)
WIRE = Atoms(
    "CO", [[0.0, 0.0, 0.0], [0.0, 0.0, 1.2]], cell=[0.0, 0.0, 2.6], pbc=[False, False, True]
)
CRYSTAL_OF_NOTHING = Atoms(cell=[3.0] * 3, pbc=True)


@pytest.mark.parametrize(
    "atoms",
    [NOTHING, BEYOND, AT_CUTOFF, TINY_CELL, WIRE, CRYSTAL_OF_NOTHING, Atoms("H")],
    ids=["nothing", "beyond", "at-cutoff", "tiny-cell", "wire", "empty-crystal", "atom"],
)
def test_odd_structures_have_numbers(atoms: Atoms, organic: GFMCalculator) -> None:
    organic.calculate(atoms)
    assert all_finite(organic)
    assert organic.results["forces"].shape == (len(atoms), 3)
    assert organic.results["energies"].shape == (len(atoms),)
    assert np.isfinite(organic.get_descriptors(atoms)).all()
    assert organic.get_hessian(atoms).shape == (3 * len(atoms), 3 * len(atoms))


def test_the_energy_of_nothing_is_zero(organic: GFMCalculator) -> None:
    assert with_calculator(Atoms(), organic).get_potential_energy() == 0.0


# Stress only where there is a volume.


@pytest.mark.parametrize("lengths", [[0.0, 0.0, 0.0], [0.0, 9.0, 9.0]], ids=["none", "two"])
def test_without_three_cell_vectors_there_is_no_stress(
    lengths: list[float], ethanol: Atoms
) -> None:
    ethanol.set_cell(lengths)
    ethanol.pbc = np.array(lengths) > 0
    ethanol.get_potential_energy()
    with pytest.raises(PropertyNotImplementedError):
        ethanol.get_stress()


def test_a_slab_with_vacuum_has_stress(slab: Atoms) -> None:
    assert slab.pbc.tolist() == [True, True, False]
    assert slab.get_stress().shape == (6,)


# Heads.


def test_the_only_head_needs_no_name(single: Path) -> None:
    assert GFMCalculator(single).head == "organic"


def test_of_several_heads_one_must_be_named(run: Path) -> None:
    match = re.escape(
        "choose a head with head=…; the heads are: organic (PBE/def2-SVP), "
        "metals (PBE, plane waves), old (HF)"
    )
    with pytest.raises(ValueError, match=match):
        GFMCalculator(run)


def test_a_wrong_head_lists_the_right_ones(run: Path) -> None:
    with pytest.raises(ValueError, match=r"no head 'omat'; the heads are: organic \(PBE/def2-SVP"):
        GFMCalculator(run, head="omat")


def test_heads_differ(run: Path, ethanol: Atoms) -> None:
    energy = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]], calculator=ethanol.calc).get_potential_energy()
    with pytest.warns(UserWarning, match="stale|not trained along"):
        old = GFMCalculator(run, head="old", default_dtype="float64")
    other = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]], calculator=old)
    assert abs(other.get_potential_energy() - energy) > 0.1


def test_a_stale_head_warns_where_it_is_asked_for(run: Path) -> None:
    with pytest.warns(UserWarning, match="head 'old' was not trained along") as warned:
        GFMCalculator(run, head="old")
    assert warned[0].filename == __file__


def test_only_the_wanted_head_is_read(model: Path) -> None:
    (model / head_file("metals")).unlink()
    GFMCalculator(model, head="organic")
    with pytest.raises(CheckpointError, match=r"metals\.safetensors is missing"):
        GFMCalculator(model, head="metals")


# Elements.


def test_an_unknown_element_is_refused_and_nothing_stale_is_left(ethanol: Atoms) -> None:
    ethanol.get_potential_energy()
    calculator = ethanol.calc
    ethanol.numbers[0] = 14
    for ask in (ethanol.get_potential_energy, ethanol.get_forces, ethanol.get_potential_energy):
        with pytest.raises(
            ValueError, match="head 'organic' does not know Si; it knows H, C, N, O"
        ):
            ask()
    assert calculator is not None
    assert not calculator.results


def test_a_refused_structure_keeps_no_results_of_the_last_one(ethanol: Atoms) -> None:
    calculator = ethanol.calc
    assert isinstance(calculator, GFMCalculator)
    calculator.calculate(ethanol)
    silane = with_calculator(molecule("SiH4"), calculator)
    for ask in (lambda: calculator.calculate(silane), silane.get_potential_energy):
        with pytest.raises(ValueError, match="does not know Si"):
            ask()
    assert calculator.get_property("energy", silane, allow_calculation=False) is None


@pytest.mark.parametrize("method", ["get_descriptors", "get_hessian"])
def test_other_answers_refuse_unknown_elements_too(method: str, organic: GFMCalculator) -> None:
    with pytest.raises(ValueError, match="does not know Si"):
        getattr(organic, method)(molecule("SiH4"))


def test_atoms_at_one_position_are_refused(organic: GFMCalculator) -> None:
    atoms = Atoms("H2", calculator=organic)
    with pytest.raises(ValueError, match="atoms 0 and 1 are at the same position"):
        atoms.get_potential_energy()


def test_broken_positions_are_refused(ethanol: Atoms) -> None:
    ethanol.positions[3, 1] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        ethanol.get_forces()


# What is kept and what is computed anew.


def test_the_same_structure_is_computed_once(
    ethanol: Atoms, n_predictions: Callable[[], int]
) -> None:
    ethanol.get_forces()
    ethanol.get_potential_energy()
    ethanol.get_potential_energies()
    with_calculator(ethanol.copy(), ethanol.calc).get_forces()
    assert n_predictions() == 1


def moved(atoms: Atoms) -> None:
    atoms.positions[0, 0] += 1e-9


def strained(atoms: Atoms) -> None:
    atoms.set_cell(1.01 * atoms.cell.array)


def exchanged(atoms: Atoms) -> None:
    atoms.numbers[0] = 29


def opened(atoms: Atoms) -> None:
    atoms.pbc = [True, True, False]


@pytest.mark.parametrize("change", [moved, strained, exchanged, opened])
def test_a_changed_structure_is_computed_anew(
    change: Callable[[Atoms], None], alloy: Atoms, n_predictions: Callable[[], int]
) -> None:
    before = alloy.get_potential_energy()
    change(alloy)
    after = alloy.get_potential_energy()
    assert n_predictions() == 2
    assert after != before


def test_results_are_the_users_own(ethanol: Atoms) -> None:
    forces = ethanol.get_forces()
    before = forces.copy()
    forces[:] = 0.0
    assert np.array_equal(ethanol.get_forces(), before)


def test_one_calculator_serves_structures_of_any_size(organic: GFMCalculator) -> None:
    for name in ("H2O", "CH4", "CH3CH2OH", "H2O"):
        atoms = with_calculator(molecule(name), organic)
        fresh = copy.deepcopy(organic)
        fresh.results = {}
        fresh.calculate(molecule(name))
        assert atoms.get_potential_energy() == fresh.results["energy"]


@pytest.mark.parametrize(
    "clone",
    [copy.deepcopy, copy.copy, lambda calculator: pickle.loads(pickle.dumps(calculator))],
    ids=["deepcopy", "copy", "pickle"],
)
def test_a_copy_gives_the_same(clone: Callable[[Any], Any], ethanol: Atoms) -> None:
    forces = ethanol.get_forces()
    other = clone(ethanol.calc)
    other.results = {}
    other.calculate(ethanol)
    assert other is not ethanol.calc
    assert np.array_equal(other.results["forces"], forces)


def test_parameters_can_be_written(organic: GFMCalculator) -> None:
    parameters: Any = organic.parameters
    parameters["model"] = "mine"
    assert organic.todict() == {"model": "mine"}


# Descriptors and Hessian.


def test_descriptors_are_invariant(ethanol: Atoms, organic: GFMCalculator) -> None:
    before = organic.get_descriptors(ethanol)
    assert before.shape == (9, 2 * BACKBONE.channels)
    turned = ethanol.copy()
    turned.rotate(40.0, (1.0, 2.0, 3.0))
    turned.positions *= -1
    assert relative(organic.get_descriptors(turned), before) < 1e-10


def test_all_components_turn(ethanol: Atoms, organic: GFMCalculator) -> None:
    """Both layers have scalars; the first, which feeds another one, has vectors too."""
    before = organic.get_descriptors(ethanol, invariants_only=False)
    channels = BACKBONE.channels
    assert before.shape == (9, (1 + 3) * channels + channels)
    turned = ethanol.copy()
    turned.rotate(40.0, (1.0, 2.0, 3.0))
    after = organic.get_descriptors(turned, invariants_only=False)
    scalars = [*range(channels), *range(4 * channels, 5 * channels)]
    assert relative(after[:, scalars], before[:, scalars]) < 1e-10
    assert relative(after, before) > 1e-2
    lengths = [
        np.linalg.norm(x[:, channels : 4 * channels].reshape(9, 3, channels), axis=1)
        for x in (before, after)
    ]
    assert relative(lengths[1], lengths[0]) < 1e-10


def test_fewer_layers_are_the_first_ones(ethanol: Atoms, organic: GFMCalculator) -> None:
    every = organic.get_descriptors(ethanol)
    first = organic.get_descriptors(ethanol, num_layers=1)
    assert np.array_equal(first, every[:, : BACKBONE.channels])
    assert np.array_equal(organic.get_descriptors(ethanol, num_layers=2), every)


@pytest.mark.parametrize("num_layers", [0, 3, -2])
def test_layers_that_are_not_there(num_layers: int, ethanol: Atoms, organic: GFMCalculator) -> None:
    with pytest.raises(ValueError, match=f"num_layers must be -1 or 1 to 2, got {num_layers}"):
        organic.get_descriptors(ethanol, num_layers=num_layers)


def test_descriptors_do_not_depend_on_the_head(run: Path, organic: GFMCalculator) -> None:
    with pytest.warns(UserWarning, match="not trained along"):
        old = GFMCalculator(run, head="old", default_dtype="float64")
    atoms = molecule("H2")
    assert np.array_equal(old.get_descriptors(atoms), organic.get_descriptors(atoms))


def test_asking_for_more_leaves_the_results(ethanol: Atoms, organic: GFMCalculator) -> None:
    energy = ethanol.get_potential_energy()
    organic.get_hessian(molecule("H2O"))
    organic.get_descriptors(molecule("H2O"))
    assert organic.results["energy"] == energy


@pytest.mark.parametrize("name", ["ethanol", "alloy"])
def test_hessian_is_the_slope_of_the_forces(name: str, request: pytest.FixtureRequest) -> None:
    atoms = request.getfixturevalue(name)
    hessian = atoms.calc.get_hessian(atoms)
    assert hessian.shape == (3 * len(atoms), 3 * len(atoms))
    assert relative(hessian.T, hessian) < 1e-10
    rows = []
    for column in range(hessian.shape[1]):
        sides = []
        for step in (STEP, -STEP):
            shifted = with_calculator(atoms.copy(), atoms.calc)
            shifted.positions.ravel()[column] += step
            sides.append(-shifted.get_forces().ravel())
        rows.append((sides[0] - sides[1]) / (2 * STEP))
    assert relative(np.array(rows), hessian) < 1e-6


# Precision and device.


def test_single_precision_is_close(run: Path, ethanol: Atoms) -> None:
    forces, energy = ethanol.get_forces(), ethanol.get_potential_energy()
    ethanol.calc = GFMCalculator(run, head="organic", device="cpu")
    assert ethanol.get_forces().dtype == np.float64
    assert 0 < relative(ethanol.get_forces(), forces) < 1e-4
    assert ethanol.get_potential_energy() == pytest.approx(energy, abs=1e-4)


def test_another_precision_is_refused(run: Path) -> None:
    wrong: Any = "float16"
    with pytest.raises(ValueError, match="must be float32 or float64, got 'float16'"):
        GFMCalculator(run, head="organic", default_dtype=wrong)


def test_the_cpu_can_be_asked_for(run: Path) -> None:
    calculator = GFMCalculator(run, head="organic", device="cpu")
    assert calculator.device == torch.device("cpu")
    assert {p.device.type for p in calculator.potential.parameters()} == {"cpu"}


@pytest.mark.parametrize("device", ["quantum", "cpu:nought", "", "meta", "cuda:99", "auto"])
def test_nonsense_devices_are_refused(device: str, run: Path) -> None:
    match = rf"cannot use device '{device}' \(.+\); try device='cpu'"
    with pytest.raises(ValueError, match=match):
        GFMCalculator(run, head="organic", device=device)


# Where models come from.


def test_a_run_and_its_checkpoint_are_one_model(run: Path) -> None:
    forces = []
    for model in (run, run / "checkpoint", str(run), str(run / "checkpoint")):
        atoms = molecule("CH3CH2OH")
        atoms.calc = GFMCalculator(model, head="organic")
        forces.append(atoms.get_forces())
    assert all(np.array_equal(one, forces[0]) for one in forces)


@pytest.mark.parametrize("model", ["gfm-small", Path("nowhere"), "./org/name"])
def test_a_missing_model_says_what_may_be_given(
    model: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at '.*': give a checkpoint folder"):
        GFMCalculator(model)


@pytest.mark.parametrize("name", [BACKBONE_FILE, head_file("organic"), "config.json"])
def test_one_changed_byte_is_noticed(name: str, model: Path) -> None:
    data = bytearray((model / name).read_bytes())
    data[-20] ^= 1
    (model / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=f"{re.escape(name)} is damaged: ") as caught:
        GFMCalculator(model, head="organic")
    assert "\n" not in str(caught.value)


# What users do with it.


@pytest.fixture
def water(organic: GFMCalculator) -> Atoms:
    return with_calculator(rattled(molecule("H2O")), organic)


@pytest.mark.parametrize("optimizer", [BFGS, FIRE])
def test_molecules_relax(optimizer: Any, water: Atoms) -> None:
    before = water.get_potential_energy()
    assert optimizer(water, logfile=None).run(fmax=0.05, steps=100)
    assert water.get_potential_energy() < before - 0.1
    assert np.linalg.norm(water.get_forces(), axis=1).max() < 0.05


def test_crystals_relax_with_their_cell(metals: GFMCalculator) -> None:
    atoms = with_calculator(bulk("CuNi", "cesiumchloride", a=2.6), metals)
    atoms.positions[1] += 0.1
    before, pressed = atoms.get_potential_energy(), np.abs(atoms.get_stress()).max()
    filtered: Any = FrechetCellFilter(atoms)  # ASE's types know no filters
    assert BFGS(filtered, logfile=None).run(fmax=0.1, steps=60)
    assert atoms.get_potential_energy() < before - 0.1
    assert np.abs(atoms.get_stress()).max() < 0.1 * pressed


@pytest.fixture
def hot(water: Atoms) -> Atoms:
    """Pushed in its minimum."""
    BFGS(water, logfile=None).run(fmax=0.01, steps=100)
    spread = np.sqrt(units.kB * 300.0 * water.get_masses())[:, None]
    water.set_momenta(spread * np.random.default_rng(0).normal(size=(3, 3)))
    return water


def test_dynamics_conserves_energy(hot: Atoms) -> None:
    """Velocity Verlet is of second order: a step of half the length deviates a quarter as much."""
    deviations = []
    for step in (0.4, 0.2):
        atoms = with_calculator(hot.copy(), hot.calc)
        energies = []
        dynamics = VelocityVerlet(atoms, timestep=step * units.fs)
        dynamics.attach(lambda atoms=atoms, found=energies: found.append(atoms.get_total_energy()))
        dynamics.run(round(30.0 / step))
        deviations.append(np.ptp(energies) / len(atoms))
    assert 0 < deviations[0] < 1e-3
    assert deviations[1] == pytest.approx(deviations[0] / 4, rel=0.2)


def test_langevin_runs(hot: Atoms) -> None:
    before = hot.positions.copy()
    dynamics = Langevin(
        hot,
        timestep=0.5 * units.fs,
        temperature_K=300.0,
        friction=0.02,
        fixcm=False,
        rng=np.random.default_rng(1),
    )
    dynamics.run(50)
    assert 0.01 < np.abs(hot.positions - before).max() < 1.0
