"""Fine-tuning: what becomes of the old heads, of reference energies, and of the errors."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import write
from gfm_models import checkpoint
from gfm_models.checkpoint import BACKBONE_FILE, head_file
from gfm_pretrain.data.extxyz import read_extxyz
from gfm_pretrain.data.structure import LabelledStructure, to_atoms
from gfm_pretrain.process import open_world
from tiny_finetune import (
    E0,
    HEADS,
    ISOLATED_ATOMS,
    OLD_RECORD,
    contents,
    isolated_atom,
    isolated_atoms,
    silanes,
    write_frames,
    write_model,
)

from gfmcalc import GFMCalculator
from gfmcalc.finetune import FinetuneOptions, finetune, head_misfit

ETHANOL, DIMER = "ccsdt_ethanol", "qm22_formic_dimer"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("finetune")


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return write_model(folder / "model")


@pytest.fixture(scope="module")
def options(folder: Path, model: Path) -> FinetuneOptions:
    """Thirty epochs on ethanol at another level of theory, in float64."""
    return FinetuneOptions(
        train=write_frames(folder / "train.extxyz", ETHANOL, range(0, 48, 4)),
        valid=write_frames(folder / "valid.extxyz", ETHANOL, range(1, 16, 4)),
        test=write_frames(folder / "test.extxyz", ETHANOL, range(2, 32, 4)),
        model=model,
        head="mine",
        run=str(folder / "full"),
        level_of_theory="CCSD(T)/cc-pVTZ",
        epochs=30,
        batch_size=4,
        learning_rate=1e-2,
        dtype="float64",
        device="cpu",
    )


def run(options: FinetuneOptions) -> tuple[Path, str]:
    with open_world(device="cpu") as world:
        return finetune(options, world)


@pytest.fixture(scope="module")
def full(options: FinetuneOptions) -> tuple[Path, str]:
    return run(options)


@pytest.fixture(scope="module")
def heads_alone(options: FinetuneOptions, folder: Path) -> tuple[Path, str]:
    return run(replace(options, method="heads", run=str(folder / "heads-alone")))


@pytest.fixture
def brief(options: FinetuneOptions, tmp_path: Path) -> Callable[..., tuple[Path, str]]:
    """A fine-tuning of one step of the head alone, with other options."""

    def tune(**changes: Any) -> tuple[Path, str]:
        short = {"run": str(tmp_path / "run"), "epochs": 1, "batch_size": 16, "method": "heads"}
        return run(replace(options, **{"test": None, **short, **changes}))

    return tune


def record_of(model: Path, head: str = "mine") -> dict[str, Any]:
    return checkpoint.read_training(model)["heads"][head]


def config_of(model: Path, head: str = "mine") -> dict[str, Any]:
    return checkpoint.read_config(model)["heads"][head]


def ethanol() -> Atoms:
    structures, _ = read_extxyz(Path(__file__).parents[2] / "data" / ETHANOL / "test.extxyz.gz")
    return to_atoms(structures[0])


# What is learnt.


def test_errors_fall(full: tuple[Path, str]) -> None:
    record = record_of(full[0])
    for kind in ("forces_mae", "forces_rmse"):
        assert record["test"][kind] < 0.7 * record["test_before"][kind]
        assert record["test"][kind] < 0.8 * record["baseline"][kind]


def test_errors_fall_with_the_head_alone(heads_alone: tuple[Path, str]) -> None:
    record = record_of(heads_alone[0])
    assert record["test"]["forces_rmse"] < record["test_before"]["forces_rmse"]
    energy = "energy_mae_per_atom"
    assert record["test"][energy] < 0.8 * record["test_before"][energy]


def test_energies_alone_are_learnt(brief: Callable[..., tuple[Path, str]], tmp_path: Path) -> None:
    train = write_frames(tmp_path / "dimers.extxyz", DIMER, range(0, 60, 4))
    model, _ = brief(train=train, valid=train, labels=("energy",), epochs=40, method="full")
    record, energy = record_of(model), "energy_mae_per_atom"
    assert "forces_mae" not in record["valid"]
    assert record["valid"][energy] < 0.9 * record["valid_before"][energy]
    assert config_of(model)["labels"] == ["energy"]


def test_the_new_head_is_used_like_any_other(full: tuple[Path, str]) -> None:
    atoms = ethanol()
    labels = atoms.get_forces()
    energy = atoms.get_potential_energy()
    atoms.calc = GFMCalculator(full[0].parent, head="mine", default_dtype="float64")
    error = np.sqrt(np.mean((atoms.get_forces() - labels) ** 2))
    assert error < 0.9 * np.sqrt(np.mean(labels**2))
    assert abs(atoms.get_potential_energy() - energy) < 1.0


def test_the_new_head_says_where_it_came_from(full: tuple[Path, str]) -> None:
    config = config_of(full[0])
    assert config["level_of_theory"] == "CCSD(T)/cc-pVTZ"
    assert config["description"] in {f"fine-tuned from head '{name}'" for name in HEADS}
    assert config["elements"] == ["H", "C", "O"]
    assert not config["stale"]


def test_tables_say_before_and_after(full: tuple[Path, str]) -> None:
    _, tables = full
    record = record_of(full[0])
    for when, found in (("before", record["test_before"]), ("after", record["test"])):
        (line,) = [line for line in tables.splitlines() if line.startswith(f"mine  {when}")]
        assert f"{1e3 * found['forces_mae']:.1f}" in line.split()
    assert "inherited" in tables
    assert "change of its forces on the new data" in tables


# What becomes of the old heads.


@pytest.mark.parametrize("name", ["full", "heads_alone"])
def test_old_heads_are_the_same_files(
    name: str, model: Path, request: pytest.FixtureRequest
) -> None:
    tuned, _ = request.getfixturevalue(name)
    checkpoint.verify(tuned)
    for head in HEADS:
        assert (tuned / head_file(head)).read_bytes() == (model / head_file(head)).read_bytes()
        expected = {**config_of(model, head), "stale": name == "full"}
        assert config_of(tuned, head) == expected


def test_old_heads_are_stale_where_the_backbone_moved(full: tuple[Path, str]) -> None:
    tuned, tables = full
    for head in HEADS:
        assert checkpoint.read_training(tuned)["drift"][head] > 1e-3
        assert any(line.split()[::2] == [head, "stale"] for line in tables.splitlines())
        with pytest.warns(UserWarning, match=f"head '{head}' was not trained along"):
            GFMCalculator(tuned, head=head)


@pytest.mark.parametrize("head", HEADS)
def test_heads_alone_leave_the_old_heads_as_they_were(
    head: str, heads_alone: tuple[Path, str], model: Path
) -> None:
    tuned, tables = heads_alone
    assert (tuned / BACKBONE_FILE).read_bytes() == (model / BACKBONE_FILE).read_bytes()
    assert checkpoint.read_training(tuned)["drift"][head] == 0.0
    assert "stale" not in tables
    forces = []
    for folder in (tuned, model):
        atoms = ethanol()
        atoms.calc = GFMCalculator(folder, head=head, default_dtype="float64")
        forces.append(atoms.get_forces())
    assert np.array_equal(*forces)


def test_a_stale_head_stays_stale(
    full: tuple[Path, str], brief: Callable[..., tuple[Path, str]]
) -> None:
    tuned, _ = brief(model=full[0], head="second")
    assert {name for name in HEADS if config_of(tuned, name)["stale"]} == set(HEADS)
    assert not config_of(tuned, "mine")["stale"]
    assert not config_of(tuned, "second")["stale"]


def test_records_of_old_heads_are_kept(full: tuple[Path, str]) -> None:
    assert record_of(full[0], "organic") == OLD_RECORD["organic"]


def test_a_model_without_a_record_can_be_tuned(
    brief: Callable[..., tuple[Path, str]], tmp_path: Path, model: Path
) -> None:
    checkpoint.save(checkpoint.load(model, dtype=torch.float64), tmp_path / "bare", training={})
    tuned, _ = brief(model=tmp_path / "bare")
    assert set(checkpoint.read_training(tuned)["heads"]) == {"mine"}


def test_the_model_itself_is_left_alone(
    full: tuple[Path, str], heads_alone: tuple[Path, str], model: Path, tmp_path: Path
) -> None:
    assert contents(model) == contents(write_model(tmp_path / "again"))


def test_the_same_again_does_no_harm(
    options: FinetuneOptions, full: tuple[Path, str], tmp_path: Path
) -> None:
    before = contents(full[0])
    folder, tables = run(options)
    assert (folder, tables) == full
    assert contents(full[0]) == before


# Which head is inherited.


def structures_of(path: str) -> list[LabelledStructure]:
    return read_extxyz(path)[0]


@pytest.fixture
def labelled_by_wide(model: Path, options: FinetuneOptions, tmp_path: Path) -> str:
    """Ethanol with the energies and forces of one of the model's own heads."""
    calculator = GFMCalculator(model, head="wide", default_dtype="float64")
    path = tmp_path / "labelled.extxyz"
    for structure in structures_of(options.train):
        atoms = to_atoms(structure)
        atoms.calc = calculator
        atoms.get_forces()
        write(path, atoms, format="extxyz", append=True)
    return str(path)


def test_the_head_that_knows_the_data_is_inherited(
    labelled_by_wide: str, brief: Callable[..., tuple[Path, str]]
) -> None:
    """It starts without error: its readout and its reference energies are right at once."""
    tuned, _ = brief(train=labelled_by_wide, valid=labelled_by_wide)
    assert config_of(tuned)["description"] == "fine-tuned from head 'wide'"
    before = record_of(tuned)["valid_before"]
    assert before["forces_rmse"] < 1e-6
    assert before["energy_rmse_per_atom"] < 1e-6


def test_a_head_can_be_chosen(
    labelled_by_wide: str, brief: Callable[..., tuple[Path, str]]
) -> None:
    tuned, tables = brief(train=labelled_by_wide, inherit_head="organic")
    assert config_of(tuned)["description"] == "fine-tuned from head 'organic'"
    (line,) = [line for line in tables.splitlines() if line.endswith("inherited")]
    assert line.startswith("organic")


def test_misfit_without_forces_does_not_depend_on_reference_energies(
    labelled_by_wide: str, model: Path
) -> None:
    base = checkpoint.load(model, dtype=torch.float64)
    structures = [
        replace(s, forces=None, energy=(s.energy or 0.0) + 1e3 * s.n_atoms)
        for s in structures_of(labelled_by_wide)
    ]
    assert head_misfit(base, "wide", structures) < 1e-6
    assert head_misfit(base, "organic", structures) > 1e-4


def test_one_unknown_element_anywhere_is_a_misfit(
    options: FinetuneOptions, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "silanes.extxyz").write_text(silanes())
    silane = structures_of(str(tmp_path / "silanes.extxyz"))[0]
    structures = 20 * structures_of(options.train)
    structures.insert(1, silane)
    base = checkpoint.load(model)
    assert head_misfit(base, "organic", structures) == math.inf


def test_a_new_element_needs_a_word(
    brief: Callable[..., tuple[Path, str]], options: FinetuneOptions, tmp_path: Path
) -> None:
    train = write_frames(tmp_path / "train.extxyz", ETHANOL, range(4), more=silanes())
    match = r"no head of the model knows all elements .*--inherit-head, out of organic, wide"
    with pytest.raises(ValueError, match=match):
        brief(train=train, valid=None)
    tuned, tables = brief(train=train, inherit_head="organic", valid=None)
    assert config_of(tuned)["elements"] == ["H", "C", "O", "Si"]
    assert "other elements" in tables
    atoms = Atoms("SiH", [[0, 0, 0], [0, 0, 1.5]])
    atoms.calc = GFMCalculator(tuned, head="mine")
    assert np.isfinite(atoms.get_forces()).all()


# Reference energies.


def test_isolated_atoms_give_reference_energies(
    brief: Callable[..., tuple[Path, str]], tmp_path: Path
) -> None:
    train = write_frames(tmp_path / "train.extxyz", ETHANOL, range(6), more=isolated_atoms())
    tuned, _ = brief(train=train)
    assert config_of(tuned)["reference_energies"] == ISOLATED_ATOMS
    assert config_of(tuned)["reference_origin"] == "isolated atoms in the data"
    atom = Atoms("O", calculator=GFMCalculator(tuned, head="mine"))
    assert atom.get_potential_energy() == ISOLATED_ATOMS["O"]


@pytest.mark.parametrize("fraction", [0.4, 0.6])
def test_isolated_atoms_are_not_set_aside(
    fraction: float, brief: Callable[..., tuple[Path, str]], tmp_path: Path
) -> None:
    train = write_frames(tmp_path / "train.extxyz", ETHANOL, range(7), more=isolated_atoms())
    tuned, _ = brief(train=train, valid=None, valid_fraction=fraction)
    assert config_of(tuned)["reference_energies"] == ISOLATED_ATOMS
    assert record_of(tuned)["n_valid"] == round(10 * fraction)
    assert record_of(tuned)["n_train"] == 10 - round(10 * fraction)


@pytest.mark.parametrize("choice", ["auto", "isolated"])
def test_contradicting_isolated_atoms_are_refused(
    choice: str, brief: Callable[..., tuple[Path, str]], tmp_path: Path
) -> None:
    more = isolated_atoms() + isolated_atom("H", -12.0)
    train = write_frames(tmp_path / "train.extxyz", ETHANOL, range(6), more=more)
    with pytest.raises(ValueError, match="isolated H atoms have different energies"):
        brief(train=train, reference_energies=choice)


def test_missing_isolated_atoms_are_named(brief: Callable[..., tuple[Path, str]]) -> None:
    with pytest.raises(ValueError, match="the data have no isolated atom of H, C, O"):
        brief(reference_energies="isolated")


def test_without_isolated_atoms_the_inherited_head_is_corrected(
    brief: Callable[..., tuple[Path, str]], options: FinetuneOptions
) -> None:
    tuned, _ = brief(inherit_head="organic", valid=options.train)
    config = config_of(tuned)
    assert config["reference_origin"].startswith(
        "those of head 'organic', changed by what it does not explain: robust least squares of 12"
    )
    # one composition: all its elements move alike, until the mean energy is right
    moved = {config["reference_energies"][symbol] - E0[symbol] for symbol in E0}
    assert max(moved) - min(moved) < 1.0
    assert record_of(tuned)["valid_before"]["energy_mae_per_atom"] < 0.1


def test_reference_energies_can_be_fitted(brief: Callable[..., tuple[Path, str]]) -> None:
    tuned, _ = brief(reference_energies="fit")
    assert config_of(tuned)["reference_origin"].startswith("robust least squares of 12 energies")


def test_reference_energies_can_be_given(brief: Callable[..., tuple[Path, str]]) -> None:
    tuned, _ = brief(reference_energies={**ISOLATED_ATOMS, "N": -1.0})
    assert config_of(tuned)["reference_energies"] == ISOLATED_ATOMS


# Odd requests.


def test_without_validation_there_are_no_errors_to_show(
    brief: Callable[..., tuple[Path, str]],
) -> None:
    tuned, tables = brief(valid=None, valid_fraction=0.0)
    assert "no errors are known" in tables
    assert record_of(tuned)["n_train"] == 12


@pytest.mark.parametrize("name", ["epochs", "batch_size"])
@pytest.mark.parametrize("value", [0, -1])
def test_numbers_below_one_are_refused(name: str, value: int, options: FinetuneOptions) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got {value}"):
        replace(options, **{name: value})


def test_the_checkpoint_is_of_plain_json_and_weights(full: tuple[Path, str]) -> None:
    names = {path.relative_to(full[0]).as_posix() for path in full[0].rglob("*") if path.is_file()}
    heads = {head_file(name) for name in (*HEADS, "mine")}
    assert names == {"config.json", "training.json", BACKBONE_FILE, *heads}
    json.loads((full[0] / "training.json").read_text())
