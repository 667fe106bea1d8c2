"""What users get: the wheel, what an import costs, and that their own files are not in the way."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tiny_finetune import write_model

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = ("gfmcalc", "models", "pretrain", "pyproject.toml", "README.md", "LICENSE")
PACKAGES = {
    "gfmcalc": REPOSITORY / "gfmcalc",
    "gfm_models": REPOSITORY / "models" / "gfm_models",
    "gfm_pretrain": REPOSITORY / "pretrain" / "gfm_pretrain",
}
ENTRY_POINTS = """\
[console_scripts]
gfm = gfmcalc.cli:main
gfm-finetune = gfmcalc.finetune_cli:main
gfm-pretrain = gfm_pretrain.cli:main
"""
HEAVY = (
    *("e3nn", "torch_geometric", "mpi4py", "matplotlib"),
    *("huggingface_hub", "pydantic", "yaml", "rich", "torch_ema"),
)
"""What neither an import nor the first forces may load."""

FIRST_FORCES = """
import json, sys
import gfmcalc
before = sorted(sys.modules)
from gfmcalc import GFMCalculator
from ase import Atoms
atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]])
atoms.calc = GFMCalculator(sys.argv[1], head="organic", device="cpu")
forces = atoms.get_forces().tolist()
import gfm_models, gfm_pretrain
files = {m.__name__: m.__file__ for m in (gfmcalc, gfm_models, gfm_pretrain)}
found = {"forces": forces, "at_import": before, "modules": sorted(sys.modules), "files": files}
print(json.dumps(found))
"""


def first_forces(model: Path, *, cwd: Path, path: Path | None = None) -> dict:
    """What a fresh process says of itself after `import gfmcalc` and the first forces."""
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", FIRST_FORCES, str(model)],
        cwd=cwd,
        env=environ | ({} if path is None else {"PYTHONPATH": str(path)}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packaging")


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return write_model(folder / "model")


@pytest.fixture(scope="module")
def beside_own_files(folder: Path, model: Path) -> dict:
    """The first forces in a folder with modules that have the names of our source folders."""
    (folder / "work").mkdir()
    for name in ("models", "pretrain", "tests", "demo"):
        (folder / "work" / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    return first_forces(model, cwd=folder / "work")


@pytest.fixture(scope="module")
def wheel(folder: Path) -> Path:
    """The wheel of a copy of the sources: a build leaves files behind, and uses them again."""
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (REPOSITORY / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(REPOSITORY / name, source / name, ignore=ignored)
        else:
            shutil.copy(REPOSITORY / name, source / name)
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder / "dist"), str(source))
    (found,) = (folder / "dist").iterdir()
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, folder: Path) -> Path:
    target = folder / "installed"
    options = ("--no-deps", "--no-index", "--quiet", "--disable-pip-version-check")
    run("-m", "pip", "install", *options, "--target", str(target), str(wheel))
    return target


def run(*words: str) -> None:
    result = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


# What an import costs.


def test_users_own_modules_are_not_in_the_way(beside_own_files: dict) -> None:
    assert beside_own_files["forces"][1][2] != 0.0
    assert not {"models", "pretrain"} & set(beside_own_files["modules"])


@pytest.mark.parametrize("module", HEAVY)
def test_forces_do_without(module: str, beside_own_files: dict) -> None:
    assert module not in beside_own_files["modules"]


@pytest.mark.parametrize("module", ["torch", "ase", "numpy"])
def test_an_import_alone_loads_nothing_large(module: str, beside_own_files: dict) -> None:
    assert module not in beside_own_files["at_import"]
    assert module in beside_own_files["modules"]


# What is in the wheel.


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {
        f"{package}/{path.relative_to(root).as_posix()}"
        for package, root in PACKAGES.items()
        for path in root.rglob("*")
        if path.suffix in (".py", ".yaml", ".c", ".h") or path.name == "py.typed"
    }
    about = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    assert names - about == expected
    assert {f"{package}/py.typed" for package in PACKAGES} <= expected
    assert {name.split("/", 1)[1] for name in about} == {
        *("METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt"),
        "licenses/LICENSE",
    }


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        about = next(n for n in archive.namelist() if n.endswith("METADATA")).split("/")[0]
        entry_points = archive.read(f"{about}/entry_points.txt").decode()
        metadata = archive.read(f"{about}/METADATA").decode()
        licence = archive.read(f"{about}/licenses/LICENSE")
    assert entry_points == ENTRY_POINTS
    assert licence == (REPOSITORY / "LICENSE").read_bytes()
    assert "License-Expression: MIT" in metadata
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]
    always = {line.split()[1].split(">")[0] for line in needed if "extra ==" not in line}
    assert always == {
        *("ase", "huggingface_hub", "jaxtyping", "numpy", "safetensors", "torch", "vesin")
    }
    assert not [line for line in needed if "<" in line or "==" in line.split(";")[0]]


def test_the_wheel_works_where_it_is_installed(
    installed: Path, model: Path, folder: Path, beside_own_files: dict
) -> None:
    found = first_forces(model, cwd=folder / "work", path=installed)
    for package, file in found["files"].items():
        assert Path(file) == installed / package / "__init__.py"
    assert found["forces"] == beside_own_files["forces"]


@pytest.mark.parametrize("command", ["gfm", "gfm-pretrain", "gfm-finetune"])
def test_commands_of_the_wheel_start(command: str, installed: Path, folder: Path) -> None:
    result = subprocess.run(
        [installed / "bin" / command, "--help"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"usage: {command}")
