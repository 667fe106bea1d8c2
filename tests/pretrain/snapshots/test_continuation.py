"""What a snapshot says of a run against what is asked for now; whole runs are in test_resume.py."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gfm_models.checkpoint import file_sha256
from gfm_pretrain.config import RunConfig
from gfm_pretrain.configuration import to_mapping
from gfm_pretrain.head_options import HeadOptions
from gfm_pretrain.snapshots.continuation import Continuation, continue_from
from gfm_pretrain.snapshots.options import ResumeOptions
from gfm_pretrain.snapshots.read import Snapshot
from gfm_pretrain.training_options import TrainingOptions


@pytest.fixture
def config(tmp_path) -> RunConfig:
    heads = {}
    for name in ("a", "b"):
        (tmp_path / f"{name}.extxyz").write_text(name)
        heads[name] = HeadOptions(train=str(tmp_path / f"{name}.extxyz"), level_of_theory="PBE")
    return RunConfig(run="runs/x", heads=heads, training=TrainingOptions(steps=10))


def snapshot_of(config: RunConfig) -> Snapshot:
    facts = {
        "step": 900,
        "config": to_mapping(config),
        "architecture": to_mapping(config.architecture),
        "data": {f"{n}/train": file_sha256(Path(str(h.train))) for n, h in config.heads.items()},
        "heads": {name: {"deal": {}, "config": {}} for name in config.heads},
        "before": {name: {"forces_mae": 1.0} for name in config.heads},
    }
    return Snapshot(folder=Path("runs/x/snapshots/step-00000900"), facts=facts)


def continued(old: RunConfig, **changes: Any) -> Continuation:
    return continue_from(snapshot_of(old), replace(old, **changes))


def refusal(old: RunConfig, **changes: Any) -> str:
    with pytest.raises(ValueError, match="runs/x cannot be continued from step 900: ") as error:
        continued(old, **changes)
    said = str(error.value)
    assert "\n" not in said
    return said.split("step 900: ")[1]


def with_head(config: RunConfig, name: str, **changes: Any) -> Mapping[str, HeadOptions]:
    return {**config.heads, name: replace(config.heads[name], **changes)}


def test_the_same_run(config):
    found = continued(config)
    assert found.changes == ()
    assert found.removed == ()
    parts = ["backbone", "heads/a"]
    assert found.parts(parts) == {part: part for part in parts}


def test_what_may_change_is_told(config):
    found = continued(config, training=TrainingOptions(steps=20), device="cpu")
    assert found.changes == ("training.steps 10 → 20", "device auto → cpu")


def test_everything_that_may_not_change_is_in_one_line(config, tmp_path):
    (tmp_path / "a.extxyz").write_text("a")
    old = snapshot_of(config)
    (tmp_path / "a.extxyz").write_text("other")
    new = replace(
        config,
        seed=4,
        model=replace(config.architecture, cutoff=3.5),
        heads=with_head(config, "b", width=3, weight=2.0),
    )
    with pytest.raises(ValueError, match="cannot be continued") as error:
        continue_from(old, new)
    sums = [old.facts["data"]["a/train"][:12], file_sha256(tmp_path / "a.extxyz")[:12]]
    cutoff = config.architecture.cutoff
    assert str(error.value) == (
        "runs/x cannot be continued from step 900: heads.b.width 64 → 3 (cannot change); "
        f"seed 0 → 4 (cannot change); model.cutoff {cutoff} → 3.5 (cannot change); "
        f"data of a/train {sums[0]} → {sums[1]} (cannot change); heads.b.weight 1.0 → 2.0 (loss). "
        "Either say resume.accept=[loss] if the changes are meant, or put back what cannot change, "
        "or choose another folder with run=FOLDER"
    )


def test_what_is_accepted_is_told(config):
    heads = with_head(config, "a", weight=2.0)
    found = continued(config, heads=heads, resume=ResumeOptions(accept=("loss",)))
    assert found.changes == ("heads.a.weight 1.0 → 2.0",)


def test_data_may_move_but_not_change(config, tmp_path):
    (tmp_path / "a.extxyz").rename(tmp_path / "moved.extxyz")
    (tmp_path / "a.extxyz").write_text("a")
    heads = with_head(config, "a", train=str(tmp_path / "moved.extxyz"))
    (change,) = continued(config, heads=heads).changes
    assert change.startswith("heads.a.train ")
    heads = with_head(config, "a", train=str(tmp_path / "b.extxyz"))
    assert "data of a/train " in refusal(config, heads=heads)


def test_a_head_joins_and_another_leaves(config, tmp_path):
    (tmp_path / "c.extxyz").write_text("c")
    c = HeadOptions(train=str(tmp_path / "c.extxyz"), level_of_theory="PBE")
    found = continued(config, heads={"b": config.heads["b"], "c": c})
    assert found.changes == ("head c joins", "head a leaves")
    assert found.removed == ("a",)
    assert found.parts(["heads/b", "heads/c"]) == {"heads/b": "heads/b"}


RENAME = ResumeOptions(rename={"a": "z"})


def test_a_head_is_renamed(config):
    heads = {"z": config.heads["a"], "b": config.heads["b"]}
    found = continued(config, heads=heads, resume=RENAME)
    assert found.changes == ("head a is now called z",)
    assert found.parts(["heads/z"]) == {"heads/z": "heads/a"}
    facts = found.snapshot.facts
    for named in (facts["heads"], facts["before"], facts["config"]["heads"]):
        assert list(named) == ["z", "b"]
    assert list(facts["data"]) == ["z/train", "b/train"]


def test_to_rename_again_does_nothing(config):
    renamed = replace(config, heads={"z": config.heads["a"], "b": config.heads["b"]})
    found = continued(renamed, resume=RENAME)
    assert found.changes == ()
    assert found.parts(["heads/z"]) == {"heads/z": "heads/z"}


def test_a_renamed_head_may_not_be_another_one(config):
    heads = {"z": replace(config.heads["a"], width=5), "b": config.heads["b"]}
    assert "heads.z.width 64 → 5 (cannot" in refusal(config, heads=heads, resume=RENAME)


def test_a_name_that_was_only_written_differently_is_not_begun_anew(config):
    heads = {"A": config.heads["a"], "b": config.heads["b"]}
    said = refusal(config, heads=heads)
    assert "resume.rename={a: A} not given, head a → A, begun anew (heads)" in said
    found = continued(config, heads=heads, resume=ResumeOptions(accept=("heads",)))
    assert found.removed == ("a",)


@pytest.mark.parametrize("rename", [{"a": "z"}, {"b": "a"}])
def test_to_rename_what_is_not_there_is_an_error(config, rename):
    with pytest.raises(ValueError, match=r"resume.rename=.* needs a head \w and no head \w in"):
        replace(config, resume=ResumeOptions(rename=rename))


def test_two_heads_may_not_get_one_name(config):
    with pytest.raises(ValueError, match="gives two heads one name"):
        replace(config, resume=ResumeOptions(rename={"x": "a", "y": "a"}))
