"""Checkpoints of every format version open and give the numbers that they gave when written."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from ase import Atoms
from gfm_models import checkpoint

from gfmcalc import GFMCalculator

CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"
FOLDERS = sorted(path for path in CHECKPOINTS.glob("version-*") if path.is_dir())
TOLERANCES: dict[Literal["float32", "float64"], float] = {"float64": 1e-9, "float32": 1e-4}
"""eV, eV/Å, eV/Å³."""

CONFIG_OF_VERSION_1 = "1021cc9f9026689e743c03e428211fa34b83f629945f984524e1a85c7d716ca0"
"""SHA-256 of the file, which holds those of all others."""

LARGEST_FOLDER = 100_000
"""Bytes."""


def folder_id(folder: Path) -> str:
    return folder.name


def expected_of(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "expected.json").read_text(encoding="utf-8"))


def atoms_of(expected: dict[str, Any]) -> Atoms:
    return Atoms(**{key: expected[key] for key in ("numbers", "positions", "cell", "pbc")})


def test_every_version_is_here() -> None:
    versions = [f"version-{number + 1}" for number in range(checkpoint.FORMAT_VERSION)]
    assert [folder.name for folder in FOLDERS] == versions


def test_version_1_is_as_it_was_written() -> None:
    config = (CHECKPOINTS / "version-1" / "checkpoint" / "config.json").read_bytes()
    assert hashlib.sha256(config).hexdigest() == CONFIG_OF_VERSION_1
    checkpoint.verify(CHECKPOINTS / "version-1" / "checkpoint")


@pytest.mark.parametrize("folder", FOLDERS, ids=folder_id)
def test_it_is_small(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.rglob("*")) < LARGEST_FOLDER


@pytest.mark.parametrize("folder", FOLDERS, ids=folder_id)
def test_expectations_reach_every_head(folder: Path) -> None:
    expected = expected_of(folder)
    config = checkpoint.read_config(folder / "checkpoint")
    assert {one["head"] for one in expected} == set(config["heads"])
    assert any(one["stress"] is not None for one in expected)
    assert max(np.abs(one["forces"]).max() for one in expected) > 1.0


@pytest.mark.filterwarnings("ignore:head 'metals' was not trained along")  # it is stale
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("folder", FOLDERS, ids=folder_id)
def test_predictions_are_those_of_old(folder: Path, dtype: Literal["float32", "float64"]) -> None:
    for expected in expected_of(folder):
        atoms = atoms_of(expected)
        atoms.calc = GFMCalculator(folder, head=expected["head"], default_dtype=dtype, device="cpu")
        found = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        if expected["stress"] is not None:
            found["stress"] = atoms.get_stress(voigt=False)
        for name, value in found.items():
            difference = np.abs(value - np.array(expected[name])).max()
            assert difference < TOLERANCES[dtype], (expected["head"], name)


def test_of_two_heads_only_the_other_is_stale() -> None:
    config = checkpoint.read_config(CHECKPOINTS / "version-1" / "checkpoint")
    assert {name: head["stale"] for name, head in config["heads"].items()} == {
        "organic": False,
        "metals": True,
    }
