"""The command `gfm-finetune`: from files to a model, alone and on two ranks, and every refusal."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from gfm_models import checkpoint
from gfm_models.checkpoint import BACKBONE_FILE
from tiny_finetune import ISOLATED_ATOMS, contents, frames, silanes, write_frames, write_model

from gfmcalc import GFMCalculator
from gfmcalc.finetune_cli import main

ETHANOL, DIMER = "ccsdt_ethanol", "qm22_formic_dimer"
BIN = Path(sys.executable).parent
SMALL = ("--head", "mine", "--epochs", "1", "--device", "cpu")
OPEN_MPI = {  # for root, and more ranks than cores
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}
PARITY = (
    *("train.extxyz", "--model", "model", "--head", "mine", "--device", "cpu"),
    *("--test", "valid.extxyz", "--epochs", "3", "--batch-size", "4", "--default-dtype", "float64"),
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a user works in: a model, data, and files that are no such thing."""
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def prepare(folder: Path) -> None:
    write_model(folder / "model")
    write_frames(folder / "train.extxyz", ETHANOL, range(0, 40, 4))
    write_frames(folder / "valid.extxyz", ETHANOL, range(1, 12, 4))
    write_frames(folder / "dimers.extxyz", DIMER, range(0, 40, 8))
    write_frames(folder / "two.extxyz", ETHANOL, range(1))
    (folder / "silanes.extxyz").write_text(silanes())
    (folder / "broken.extxyz").write_text(frames(ETHANOL)[0][:-100])
    (folder / "E0.json").write_text(json.dumps(ISOLATED_ATOMS))
    (folder / "missing.json").write_text('{"H": -13.6, "C": -1028.3}')
    (folder / "list.json").write_text("[-13.6]")
    (folder / "words.json").write_text('{"H": null, "C": "-1028.3", "O": -2040.4}')
    (folder / "metal.json").write_text('{"H": -13.6, "Xx": 1.0}')
    (folder / "cut.json").write_text('{"H": -13.6')
    (folder / "full").mkdir()
    (folder / "full" / "thesis.tex").write_text("three years of work")


def test_files_become_a_model(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train.extxyz", "--model=model", "--valid", "valid.extxyz", "--E0s", "E0.json"]
    assert main([*words, "--inherit_head=wide", "--max_num_epochs=1", *SMALL[:2], *SMALL[4:]]) == 0
    out = capsys.readouterr().out
    assert out.endswith('\nGFMCalculator("finetune-mine/checkpoint", head="mine")\n')
    for when in ("before", "after", "predicting nothing"):
        assert f"mine  {when}" in out
    config = checkpoint.read_config(here / "finetune-mine" / "checkpoint")
    assert config["heads"]["mine"]["reference_energies"] == ISOLATED_ATOMS
    assert config["heads"]["mine"]["reference_origin"] == "given by the user"
    atoms = molecule("CH3CH2OH")
    atoms.calc = GFMCalculator("finetune-mine", head="mine", device="cpu")
    assert np.isfinite(atoms.get_forces()).all()


def test_the_same_command_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train.extxyz", "--model", "model", *SMALL]
    assert main(words) == 0
    first, before = capsys.readouterr().out, contents(here / "finetune-mine" / "checkpoint")
    assert main(words) == 0
    assert capsys.readouterr().out == first
    assert contents(here / "finetune-mine" / "checkpoint") == before


def test_a_tuned_model_is_tuned_again(here: Path) -> None:
    assert main(["train.extxyz", "--model", "model", *SMALL]) == 0
    again = ("--head", "second", *SMALL[2:])
    assert main(["train.extxyz", "--model", "finetune-mine", *again]) == 0
    config = checkpoint.read_config(here / "finetune-second" / "checkpoint")
    assert list(config["heads"]) == ["organic", "wide", "mine", "second"]


REFUSALS: dict[str, tuple[Sequence[str], str]] = {
    "existing head": (
        ["train.extxyz", "--head", "wide"],
        "head 'wide' exists already, choose another name; the heads are: organic (PBE/def2-SVP)",
    ),
    "impossible head": (["train.extxyz", "--head", "a/b"], "'a/b' is no name for a head"),
    "unknown head to inherit": (
        ["train.extxyz", "--inherit-head", "metals"],
        "no head 'metals'; the heads are: organic (PBE/def2-SVP), wide (HF/STO-3G)",
    ),
    "no forces": (
        ["dimers.extxyz"],
        "no structure in dimers.extxyz has a label 'forces'",
    ),
    "no such energy key": (
        ["train.extxyz", "--energy-key", "energie"],
        "no structure has the energy key 'energie'; its keys are",
    ),
    "no such forces key": (
        ["train.extxyz", "--forces_key", "force"],
        "no structure has the forces key 'force'",
    ),
    "no such E0s": (
        ["train.extxyz", "--E0s", "average"],
        "--E0s must be auto, isolated, fit or a JSON file, and there is no file 'average'",
    ),
    "E0s cut short": (["train.extxyz", "--E0s", "cut.json"], "cut.json is not JSON"),
    "E0s in a list": (["train.extxyz", "--E0s", "list.json"], 'list.json must hold {"H": -13.6'),
    "E0s in words": (["train.extxyz", "--E0s", "words.json"], 'words.json must hold {"H": -13.6'),
    "E0s incomplete": (
        ["train.extxyz", "--E0s", "missing.json"],
        "reference energies are missing for O",
    ),
    "E0s of nothing": (
        ["train.extxyz", "--E0s", "metal.json"],
        "'Xx', which is no chemical symbol",
    ),
    "no isolated atoms": (
        ["train.extxyz", "--E0s", "isolated"],
        "the data have no isolated atom of H, C, O",
    ),
    "new element": (
        ["silanes.extxyz"],
        "name the one to start from with --inherit-head, out of organic, wide",
    ),
    "too few structures": (
        ["two.extxyz"],
        "two.extxyz has 1 structures, too few to set aside valid_fraction = 0.1 of them",
    ),
    "absurd fraction": (
        ["train.extxyz", "--valid-fraction", "1.5"],
        "valid_fraction must lie in 0 to 1, got 1.5",
    ),
    "wrong model": (
        ["train.extxyz", "--model", "gfm-large"],
        "no checkpoint at 'gfm-large': give a checkpoint folder",
    ),
    "a folder that is no model": (["train.extxyz", "--model", "full"], "no checkpoint at 'full'"),
    "no data": (["absent.extxyz"], "no such file: absent.extxyz"),
    "no validation data": (
        ["train.extxyz", "--valid", "absent.extxyz"],
        "no such file: absent.extxyz",
    ),
    "broken data": (["broken.extxyz"], "broken.extxyz, frame 0: "),
    "no epochs": (["train.extxyz", "--epochs", "0"], "epochs must be at least 1, got 0"),
    "no batch": (["train.extxyz", "--batch-size", "0"], "batch_size must be at least 1, got 0"),
    "no rate": (["train.extxyz", "--lr", "0"], "training.learning_rate must be positive, got 0.0"),
    "occupied folder": (["train.extxyz", "--run", "full"], "full exists and holds no run"),
    "the model's own folder": (
        ["train.extxyz", "--run", "model"],
        "model exists and holds no run",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_are_one_line_and_write_over_nothing(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, reason = REFUSALS[name]
    before = contents(here)
    status = main(["--model", "model", *SMALL, *words])
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    assert err.startswith("gfm-finetune: error: ")
    assert err.count("\n") == 1
    assert reason in err
    after = contents(here)
    assert {path: after[path] for path in before} == before
    assert not list(here.glob("finetune-*/checkpoint"))


def test_a_refused_command_can_be_put_right(here: Path) -> None:
    words = ["dimers.extxyz", "--model", "model", *SMALL]
    assert main(words) == 2
    assert main([*words, "--labels", "energy"]) == 0


def test_another_run_in_the_same_folder_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train.extxyz", "--model", "model", *SMALL]
    assert main(words) == 0
    (here / "finetune-mine" / "lock").unlink()  # says who used the folder last
    before = contents(here)
    capsys.readouterr()
    assert main([*words, "--seed", "1"]) == 2
    (here / "finetune-mine" / "lock").unlink()
    said = capsys.readouterr().err
    assert "finetune-mine cannot be continued from step 2: seed 0 → 1 (cannot change)" in said
    assert contents(here) == before


def test_a_damaged_model_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = here / "model" / BACKBONE_FILE
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    assert main(["train.extxyz", "--model", "model", *SMALL]) == 2
    err = capsys.readouterr().err
    assert f"{BACKBONE_FILE} is damaged" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["--model", "model"], ["--head", "mine", "--metod", "full"]])
def test_the_usage_is_shown(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["train.extxyz", *words])
    assert stopped.value.code == 2
    assert "usage: gfm-finetune" in capsys.readouterr().err


# Two ranks.


def on_two_ranks(words: Sequence[str], folder: Path) -> tuple[int, str]:
    result = subprocess.run(
        [BIN / "mpiexec", "-n", "2", BIN / "gfm-finetune", *words],
        cwd=folder,
        env={**os.environ, **OPEN_MPI},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return result.returncode, result.stdout + result.stderr


@pytest.mark.mpi
@pytest.mark.slow
def test_two_ranks_find_what_one_finds(
    here: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("two-ranks")
    prepare(folder)
    status, output = on_two_ranks(PARITY, folder)
    assert status == 0, output
    assert output.count('GFMCalculator("finetune-mine/checkpoint", head="mine")') == 1
    assert main(PARITY) == 0
    alone, together = (path / "finetune-mine" / "checkpoint" for path in (here, folder))
    records = [checkpoint.read_training(path) for path in (alone, together)]
    assert [record["n_ranks"] for record in records] == [1, 2]
    for split in ("valid", "test", "test_before"):
        expected, found = (record["heads"]["mine"][split] for record in records)
        assert found == pytest.approx(expected, abs=1e-9)
    assert records[1]["drift"] == pytest.approx(records[0]["drift"], abs=1e-6)
    weights = [
        checkpoint.load(path, heads=["mine"], dtype=torch.float64).state_dict()
        for path in (alone, together)
    ]
    for name, expected in weights[0].items():
        torch.testing.assert_close(weights[1][name], expected, rtol=0, atol=1e-9)


@pytest.mark.mpi
def test_what_one_rank_alone_finds_out_is_said_once(here: Path) -> None:
    """Only the first rank looks for the model, which may be on the hub; the others wait for it."""
    status, output = on_two_ranks(("train.extxyz", "--model", "absent", *SMALL), here)
    assert status != 0
    assert output.count("gfm-finetune: error") == 1
    assert output.count("no checkpoint at 'absent'") == 1
    assert "Traceback" not in output
    assert not list(here.glob("finetune-*"))
