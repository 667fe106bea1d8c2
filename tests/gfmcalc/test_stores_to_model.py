"""From published files to a potential: import, pretrain from stores, fine-tune with one, use it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.build import molecule
from launch import BIN, OPEN_MPI

from gfmcalc import GFMCalculator
from gfmcalc.cli import main

SAMPLES = Path(__file__).resolve().parents[2] / "data"
MODEL = {
    "channels": 4,
    "cutoff": 3.2,
    "n_radial": 4,
    "radial_hidden": [6],
    "element_channels": 4,
    "mean_neighbors": 8.0,
}


def import_sample(name: str, out: Path) -> str:
    files = [str(SAMPLES / name / f"{split}.extxyz.gz") for split in ("train", "valid", "test")]
    words = ["data", "import", "extxyz", *files, "--out", str(out), "--level-of-theory", "a level"]
    assert main([*words, "--option", "split_by=filename", "group_by=frame"]) == 0
    return str(out)


def run(*words: str) -> str:
    command = [str(BIN / words[0]), *words[1:]]
    environ = {**os.environ, **OPEN_MPI}
    ended = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.parametrize("stage", ["mapped", "shared"])
def test_from_files_to_a_potential(stage, tmp_path):
    config = {
        "run": str(tmp_path / "run"),
        "device": "cpu",
        "model": MODEL,
        "stage": stage,
        "heads": {
            "ccsdt": {"store": import_sample("ccsdt_ethanol", tmp_path / "ccsdt")},
            "pbe": {"store": import_sample("rmd17", tmp_path / "pbe")},
        },
        "mixture": {"by": "size", "batch_size": 12},
        "training": {"epochs": 0.05, "warmup_steps": 2, "validate_every": 100},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    said = run("mpiexec", "-n", "2", sys.executable, str(BIN / "gfm-pretrain"), str(path))
    assert "a level" in (tmp_path / "run/checkpoint/config.json").read_text()
    assert "epochs" in said
    if stage == "mapped":
        finetune_with_a_store(tmp_path)


def finetune_with_a_store(folder: Path) -> None:
    words = [str(folder / "pbe"), "--model", str(folder / "run/checkpoint"), "--head", "again"]
    run("gfm-finetune", *words, "--epochs", "1", "--batch-size", "400", "--run", str(folder / "ft"))
    atoms = molecule("CH3CH2OH")
    atoms.calc = GFMCalculator(folder / "ft/checkpoint", head="again")
    assert np.isfinite(atoms.get_potential_energy())
    assert atoms.get_forces().shape == (9, 3)
    assert "a level" in (folder / "ft/checkpoint/config.json").read_text()
