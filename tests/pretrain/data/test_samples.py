"""The samples in data/ are what their metadata and README say."""

import hashlib
import importlib.util
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from gfm_pretrain.data.extxyz import read_extxyz
from gfm_pretrain.data.structure import LabelledStructure

DATA = Path(__file__).parents[3] / "data"
HEADS = ("wb97x", "rmd17", "ccsdt_ethanol", "mlearn", "monbtaw", "qm22_formic_dimer")
WITH_STRESS = ("mlearn", "monbtaw")
WITHOUT_FORCES = ("qm22_formic_dimer",)
SPLITS = ("train", "valid", "test")


@cache
def structures(head: str, split: str) -> list[LabelledStructure]:
    return read_extxyz(DATA / head / f"{split}.extxyz.gz")[0]


@cache
def metadata(head: str) -> dict:
    return json.loads((DATA / head / "metadata.json").read_text("utf-8"))


@cache
def geometries(head: str, split: str) -> frozenset[tuple]:
    return frozenset(
        (s.atomic_numbers.tobytes(), np.round(s.positions, 3).tobytes(), s.cell.tobytes())
        for s in structures(head, split)
    )


def test_the_repository_stays_small():
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 6_000_000
    assert {path.name for path in DATA.iterdir() if path.is_dir()} - {"__pycache__"} == set(HEADS)


@pytest.mark.parametrize("head", HEADS)
def test_files_match_their_metadata(head):
    assert set(metadata(head)["files"]) == {f"{split}.extxyz.gz" for split in SPLITS}
    for name, described in metadata(head)["files"].items():
        content = (DATA / head / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == described["sha256"]
        found = structures(head, name.removesuffix(".extxyz.gz"))
        assert len(found) == described["n_structures"]
        assert sum(s.n_atoms for s in found) == described["n_atoms"]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_there(head, split):
    for structure in structures(head, split):
        assert structure.energy is not None
        assert (structure.forces is None) == (head in WITHOUT_FORCES)
        assert (structure.stress is not None) == (head in WITH_STRESS)
        assert structure.pbc.all() == (head in WITH_STRESS)


@pytest.mark.parametrize("head", HEADS)
def test_every_element_is_in_every_split(head):
    found = {
        split: {int(z) for s in structures(head, split) for z in s.atomic_numbers}
        for split in SPLITS
    }
    assert found["train"] == found["valid"] == found["test"]


def test_no_structure_is_in_two_splits():
    """Neither of one head nor of two: the shared network would have seen the other's test set."""
    splits = Counter(
        geometry
        for split in SPLITS
        for geometry in frozenset().union(*(geometries(head, split) for head in HEADS))
    )
    assert max(splits.values()) == 1


@pytest.mark.parametrize(
    ("head", "element"),
    [("mlearn", e) for e in (3, 14, 28, 42)] + [("monbtaw", e) for e in (41, 42, 73, 74)],
)
def test_sheared_cells_have_their_stress_in_the_plane_of_the_shear(head, element):
    """Wrong orders of the components exchange two of the three planes."""
    planes = [
        plane
        for split in SPLITS
        for structure in structures(head, split)
        if set(structure.atomic_numbers) == {element}
        and (plane := planes_of_shear(structure)) is not None
    ]
    assert {strained for strained, _ in planes} == {"yz", "xz", "xy"}
    assert np.mean([strained == stressed for strained, stressed in planes]) > 0.85


def planes_of_shear(structure: LabelledStructure) -> tuple[str, str] | None:
    """Of the strain and of the stress; None unless one angle alone of a cubic cell has changed."""
    cell, stress = structure.cell, stress_of(structure)
    lengths = np.linalg.norm(cell, axis=1)
    cosines = cell @ cell.T / np.outer(lengths, lengths)
    planes = {"yz": (1, 2), "xz": (0, 2), "xy": (0, 1)}
    sheared = [name for name, (a, b) in planes.items() if abs(cosines[a, b]) > 1e-3]
    along_axes = np.array_equal(np.abs(cell).argmax(axis=1), [0, 1, 2])
    if len(sheared) != 1 or not along_axes or np.ptp(lengths) > 0.02 * lengths.max():
        return None
    return sheared[0], max(planes, key=lambda name: abs(stress[planes[name]]))


@pytest.mark.parametrize("head", HEADS)
def test_zero_force_baseline(head):
    baseline = metadata(head)["zero_force_baseline_on_test"]
    if head in WITHOUT_FORCES:
        assert baseline is None
        return
    forces = np.concatenate([s.forces for s in structures(head, "test") if s.forces is not None])
    assert baseline["mae_eV_per_A"] == pytest.approx(np.abs(forces).mean(), abs=1e-6)
    assert baseline["rmse_eV_per_A"] == pytest.approx(np.sqrt((forces**2).mean()), abs=1e-6)


@pytest.mark.parametrize("head", HEADS)
def test_readme_and_licences_cover_the_sample(head):
    counts = [metadata(head)["files"][f"{split}.extxyz.gz"]["n_structures"] for split in SPLITS]
    row = re.search(rf"\| `{head}` \|.*", (DATA / "README.md").read_text("utf-8"))
    assert row
    assert " / ".join(map(str, counts)) in row[0]
    licences = (DATA / "LICENSES.md").read_text("utf-8")
    assert f"`{head}`" in licences
    assert all(s["commit"] in licences for s in metadata(head)["sources"] if "commit" in s)


@pytest.fixture(scope="module")
def select_samples() -> ModuleType:
    spec = importlib.util.spec_from_file_location("select_samples", DATA / "select_samples.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rare_strata_are_represented(select_samples):
    shares = select_samples.allocate({("a",): 1000, ("b",): 100, ("c",): 2}, 60)
    assert shares[("c",)] == 2
    assert shares[("b",)] == 10
    assert sum(shares.values()) == 60


def test_frames_are_copied_unchanged(select_samples, tmp_path):
    name = "qm22_formic_dimer"
    sample = select_samples.Sample(folder=name, source=name, sizes=(None, 20, None))
    select_samples.write_sample(sample, DATA, tmp_path, {})
    for split, n_expected in zip(SPLITS, (300, 20, 50), strict=True):
        source = select_samples.read_frames(DATA / name / f"{split}.extxyz.gz")
        copied = select_samples.read_frames(tmp_path / name / f"{split}.extxyz.gz")
        assert len(copied) == n_expected
        assert copied == [frame for frame in source if frame in copied]


def test_two_stresses_of_named_elements_are_exchanged(select_samples, tmp_path):
    sample = select_samples.Sample(
        folder="mlearn", source="mlearn", sizes=(9, 9, None), exchanged=("Mo", "Ni")
    )
    metadata = select_samples.write_sample(sample, DATA, tmp_path, {})
    assert metadata["subset"].endswith("but for the stresses yz and xz of Mo and Ni, exchanged")
    before = structures("mlearn", "test")
    after, _ = read_extxyz(tmp_path / "mlearn" / "test.extxyz.gz")
    for old, new in zip(before, after, strict=True):
        order = [1, 0, 2] if set(old.atomic_numbers) <= {28, 42} else [0, 1, 2]
        assert np.array_equal(shear(new), shear(old)[order])
        assert np.array_equal(np.diag(stress_of(new)), np.diag(stress_of(old)))
        assert np.array_equal(stress_of(new), stress_of(new).T)


def stress_of(structure: LabelledStructure) -> np.ndarray:
    assert structure.stress is not None
    return structure.stress


def shear(structure: LabelledStructure) -> np.ndarray:
    """Stresses yz, xz, xy."""
    return stress_of(structure)[[1, 0, 0], [2, 2, 1]]


def test_choice_and_files_are_reproducible(select_samples):
    frames = select_samples.read_frames(DATA / "qm22_formic_dimer" / "test.extxyz.gz")
    places = [frames.index(frame) for frame in select_samples.choose(frames, 8, "salt")]
    assert places == [3, 31, 33, 37, 39, 41, 43, 48]
    assert select_samples.choose(frames, 8, "pepper") != select_samples.choose(frames, 8, "salt")
    time_stamp = slice(4, 8)  # of a gzip header, RFC 1952
    assert select_samples.compress(frames)[time_stamp] == bytes(4)


def test_a_structure_of_another_split_is_left_out(select_samples):
    frames = select_samples.read_frames(DATA / "qm22_formic_dimer" / "test.extxyz.gz")
    split_of = {frames[0].geometry: "test", frames[1].geometry: "train"}
    assert select_samples.keep_in_one_split(frames, "train", split_of) == frames[1:]
