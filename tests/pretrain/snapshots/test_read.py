"""Snapshots are verified before they are trusted; that ranks agree is shown in test_resume.py."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from gfm_pretrain.durable import recover
from gfm_pretrain.snapshots.read import newest_snapshot, read_parts
from snapshots.written import FACTS, change_manifest, flip_bit, newest_step, parts, write


def test_what_is_written_is_read(tmp_path):
    folder = write(tmp_path, 7)
    found = newest_snapshot(tmp_path)
    assert found is not None
    assert (found.folder, found.step, found.damaged) == (folder, 7, ())
    assert found.facts.items() >= FACTS.items()
    read = read_parts(folder, {"backbone": "backbone", "heads/a": "heads/a"})
    for part, tensors in parts(7).items():
        assert read[part].keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert torch.equal(read[part][name], tensor)
            assert read[part][name].dtype == tensor.dtype


def test_a_part_may_be_read_under_another_name(tmp_path):
    read = read_parts(write(tmp_path, 7), {"heads/b": "heads/a"})
    assert torch.equal(read["heads/b"]["weight/w"], parts(7)["heads/a"]["weight/w"])
    assert list(read) == ["heads/b"]


def test_without_snapshots_there_is_none(tmp_path):
    assert newest_snapshot(tmp_path) is None


def test_the_newest_is_that_of_the_most_steps(tmp_path):
    for step in (20, 10**8, 99, 10**8 + 1, 3):
        shutil.copytree(write(tmp_path / "other", step), tmp_path / f"snapshots/step-{step:08d}")
    assert newest_step(tmp_path) == 10**8 + 1


def change_seconds(path: Path) -> None:
    path.write_text(path.read_text().replace("0.3000", "0.4000"))


DAMAGES = {
    "a flipped bit": ("backbone.safetensors", flip_bit, "does not have its SHA-256"),
    "a flipped bit in a head": ("heads/a.safetensors", flip_bit, "does not have its SHA-256"),
    "a missing file": ("heads/a.safetensors", Path.unlink, "is missing"),
    "a truncated file": (
        "backbone.safetensors",
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        "does not have its SHA-256",
    ),
    "no manifest": ("snapshot.json", Path.unlink, "is missing or damaged"),
    "half a manifest": (
        "snapshot.json",
        lambda path: path.write_text(path.read_text()[:99]),
        "is missing or damaged",
    ),
    "another manifest": (
        "snapshot.json",
        lambda path: path.write_text("[]"),
        "is missing or damaged",
    ),
    "an empty manifest": (
        "snapshot.json",
        lambda path: path.write_text("{}"),
        "is missing or damaged",
    ),
    "a changed manifest": ("snapshot.json", change_seconds, "is missing or damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_snapshot_is_passed_over_and_named(tmp_path, damage):
    write(tmp_path, 3)
    name, harm, said = DAMAGES[damage]
    harm(write(tmp_path, 6) / name)
    found = newest_snapshot(tmp_path)
    assert found is not None
    assert found.step == 3
    assert found.damaged == (f"step-00000006: {name} {said}",)


def test_if_all_are_damaged_the_run_does_not_begin_anew_in_silence(tmp_path):
    flip_bit(write(tmp_path, 3) / "backbone.safetensors")
    (write(tmp_path, 4) / "snapshot.json").unlink()
    with pytest.raises(ValueError, match=r"no snapshot of .* can be read \(step-00000004: snap"):
        newest_snapshot(tmp_path)


def test_after_a_damaged_one_the_next_is_not_taken_for_old(tmp_path):
    write(tmp_path, 3)
    flip_bit(write(tmp_path, 6) / "backbone.safetensors")
    write(tmp_path, 4, keep=1)
    assert newest_step(tmp_path) == 4
    assert len(list((tmp_path / "snapshots").iterdir())) == 1


def test_a_write_that_was_killed_is_ignored_and_cleared_away(tmp_path):
    write(tmp_path, 3)
    unfinished = tmp_path / "snapshots" / "step-00000006.unfinished"
    write(tmp_path, 6).rename(unfinished)
    assert newest_step(tmp_path) == 3
    recover(tmp_path / "snapshots")
    assert not unfinished.exists()
    assert newest_step(tmp_path) == 3


def test_a_snapshot_takes_the_place_of_a_damaged_one(tmp_path):
    flip_bit(write(tmp_path, 6) / "backbone.safetensors")
    write(tmp_path, 6)
    assert newest_step(tmp_path) == 6


@pytest.mark.parametrize("version", [1, 3])
def test_one_of_another_version_is_not_passed_over_in_silence(tmp_path, version):
    write(tmp_path, 3)
    folder = write(tmp_path, 6)
    change_manifest(folder, format=version)
    said = f"{folder} was written by another version of gfmcalc (snapshot format {version}, this"
    with pytest.raises(ValueError, match=re.escape(said)):
        newest_snapshot(tmp_path)


def test_the_manifest_is_plain_json(tmp_path):
    manifest = json.loads((write(tmp_path, 2) / "snapshot.json").read_text())
    assert set(manifest) == {"format", "step", "files", "sha256", *FACTS}
    assert set(manifest["files"]) == {"backbone.safetensors", "heads/a.safetensors"}
