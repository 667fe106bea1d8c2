"""In one process; that any number of ranks continues a snapshot is shown in test_trainer.py."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from gfm_pretrain.process import World
from gfm_pretrain.snapshot import (
    newest_snapshot,
    optimizer_state,
    read_parts,
    restore_optimizer,
    write_snapshot,
)

WORLD = World(
    rank=0, size=1, local_rank=0, local_size=1, launcher="single", device=torch.device("cpu")
)
FACTS = {"seconds": 0.1 + 0.2, "before": {"a": {"forces_mae": 1e-3}}}


def parts(step: int) -> dict[str, dict[str, torch.Tensor]]:
    return {
        "backbone": {"weight/w": torch.full((3, 2), float(step)), "step/w": torch.tensor(1.0)},
        "heads/a": {"weight/w": torch.full((2,), -float(step), dtype=torch.float64)},
    }


def write(run: Path, step: int, *, keep: int = 9) -> Path:
    return write_snapshot(run, step, parts=parts(step), facts=FACTS, world=WORLD, keep=keep)


def newest_step(run: Path) -> int:
    found = newest_snapshot(run)
    assert found is not None
    return found[1]["step"]


def test_what_is_written_is_read(tmp_path):
    folder = write(tmp_path, 7)
    assert newest_snapshot(tmp_path) is not None
    found, manifest = newest_snapshot(tmp_path) or (None, {})
    assert found == folder
    assert manifest.items() >= {"step": 7, **FACTS}.items()
    read = read_parts(folder, ["backbone", "heads/a"])
    for part, tensors in parts(7).items():
        assert read[part].keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert torch.equal(read[part][name], tensor)
            assert read[part][name].dtype == tensor.dtype
    assert list(read_parts(folder, ["heads/a"])) == ["heads/a"]


def test_without_snapshots_there_is_none(tmp_path):
    assert newest_snapshot(tmp_path) is None


def test_the_newest_is_that_of_the_most_steps(tmp_path):
    for step in (20, 100, 3):
        shutil.copytree(
            write(tmp_path / "other", step), tmp_path / "snapshots" / f"step-{step:08d}"
        )
    assert newest_step(tmp_path) == 100


def test_old_ones_go_and_the_newest_stay(tmp_path):
    for step in range(1, 6):
        write(tmp_path, step, keep=2)
    names = sorted(path.name for path in (tmp_path / "snapshots").iterdir())
    assert names == ["step-00000004", "step-00000005"]


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def change_seconds(path: Path) -> None:
    path.write_text(path.read_text().replace("0.3000", "0.4000"))


DAMAGES = {
    "a flipped bit": ("backbone.safetensors", flip_bit),
    "a flipped bit in a head": ("heads/a.safetensors", flip_bit),
    "a missing file": ("heads/a.safetensors", Path.unlink),
    "a truncated file": ("backbone.safetensors", lambda path: path.write_bytes(b"")),
    "no manifest": ("snapshot.json", Path.unlink),
    "half a manifest": ("snapshot.json", lambda path: path.write_text(path.read_text()[:99])),
    "another manifest": ("snapshot.json", lambda path: path.write_text("[]")),
    "an empty manifest": ("snapshot.json", lambda path: path.write_text("{}")),
    "a changed manifest": ("snapshot.json", change_seconds),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_snapshot_is_passed_over(tmp_path, damage):
    write(tmp_path, 3)
    name, harm = DAMAGES[damage]
    harm(write(tmp_path, 6) / name)
    assert newest_step(tmp_path) == 3


def test_if_all_are_damaged_there_is_none(tmp_path):
    flip_bit(write(tmp_path, 3) / "backbone.safetensors")
    assert newest_snapshot(tmp_path) is None


def test_after_a_damaged_one_the_next_is_not_taken_for_old(tmp_path):
    write(tmp_path, 3)
    flip_bit(write(tmp_path, 6) / "backbone.safetensors")
    write(tmp_path, 4, keep=1)
    assert newest_step(tmp_path) == 4
    assert len(list((tmp_path / "snapshots").iterdir())) == 1


def test_a_write_that_was_killed_is_ignored_and_cleared_away(tmp_path):
    write(tmp_path, 3)
    unfinished = tmp_path / "snapshots" / "step-00000006.unfinished"
    shutil.copytree(write(tmp_path, 6), unfinished)
    shutil.rmtree(tmp_path / "snapshots" / "step-00000006")
    assert newest_step(tmp_path) == 3
    write(tmp_path, 7)
    assert not unfinished.exists()


def test_a_snapshot_takes_the_place_of_a_damaged_one(tmp_path):
    flip_bit(write(tmp_path, 6) / "backbone.safetensors")
    write(tmp_path, 6)
    assert newest_step(tmp_path) == 6


def test_a_snapshot_that_cannot_be_written_leaves_the_last_one(tmp_path, monkeypatch):
    write(tmp_path, 3)

    def full_disk(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gfm_pretrain.snapshot.save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, 6)
    assert newest_step(tmp_path) == 3


def test_the_manifest_is_plain_json(tmp_path):
    manifest = json.loads((write(tmp_path, 2) / "snapshot.json").read_text())
    assert set(manifest) == {"step", "files", "sha256", *FACTS}
    assert set(manifest["files"]) == {"backbone.safetensors", "heads/a.safetensors"}


def adam(weight: torch.nn.Parameter) -> torch.optim.AdamW:
    return torch.optim.AdamW([weight], lr=0.1)


def descend(optimizer: torch.optim.AdamW, weight: torch.nn.Parameter, n_steps: int) -> None:
    for _ in range(n_steps):
        optimizer.zero_grad()
        (weight**2).sum().backward()
        optimizer.step()


def test_an_optimizer_goes_on_where_it_was():
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = adam(weight)
    descend(optimizer, weight, 3)
    copy = torch.nn.Parameter(weight.detach().clone())
    restored = adam(copy)
    state = {k: v.clone() for k, v in optimizer_state(optimizer, {"w": weight}).items()}
    restore_optimizer(restored, {"w": copy}, state)
    descend(optimizer, weight, 3)
    descend(restored, copy, 3)
    assert torch.equal(weight, copy)


def test_the_state_before_the_first_step_is_no_state():
    weight, other = (torch.nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    restored = adam(other)
    restore_optimizer(restored, {"w": other}, optimizer_state(adam(weight), {"w": weight}))
    descend(adam(weight), weight, 2)
    descend(restored, other, 2)
    assert torch.equal(weight, other)
