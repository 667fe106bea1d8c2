import math
import os
import shutil

import pytest
import torch
from gfm_models import checkpoint
from gfm_models.backbone import BackboneConfig
from gfm_models.heads import HeadConfig
from gfm_models.potential import build_potential
from gfm_pretrain.snapshots.best import commit_best, improved, judge, read_best, write_weights

ERRORS = {"energy_mae_per_atom": 0.002, "energy_rmse_per_atom": 9.0, "forces_mae": 0.05}
SMALL = {"channels": 2, "n_radial": 3, "element_channels": 2}
BACKBONE = BackboneConfig(cutoff=3.0, radial_hidden=(4,), **SMALL)
HEADS = {
    name: HeadConfig(level_of_theory="x", reference_energies={"H": 0.0}, scales={"H": 1.0}, width=3)
    for name in ("a", "b")
}


def test_the_combined_error_is_the_geometric_mean_of_what_there_is():
    assert judge(ERRORS, "combined") == pytest.approx(math.sqrt(0.002 * 0.05))
    assert judge({"energy_mae_per_atom": 0.3}, "combined") == pytest.approx(0.3)
    assert judge({}, "combined") is None


def test_units_and_scales_do_not_matter():
    """Halving any of the errors is the same progress."""
    halves = [judge({**ERRORS, k: ERRORS[k] / 2}, "combined") for k in ERRORS if "mae" in k]
    assert halves == pytest.approx([math.sqrt(0.002 * 0.05 / 2)] * 2)


def test_one_error_may_be_chosen():
    assert judge(ERRORS, "forces_mae") == 0.05
    assert judge(ERRORS, "stress_mae") is None


def test_only_what_is_better_is_new():
    errors = {"a": {"forces_mae": 0.1}, "b": {"forces_mae": 0.2}, "c": {"forces_mae": 9.0}}
    best = {"a": 0.1, "b": 0.3}
    assert improved(errors, "forces_mae", best) == {"b": 0.2, "c": 9.0}
    assert improved({"d": {}}, "forces_mae", {}) == {}


def write(run, value: float, **training) -> torch.Tensor:
    """Both heads, as one rank that writes everything does."""
    potential = build_potential(BACKBONE, HEADS)
    with torch.no_grad():
        for parameter in potential.parameters():
            parameter.fill_(value)
    weights = {name: dict(potential.head(name).named_parameters()) for name in HEADS}
    backbone = dict(potential.backbone.named_parameters())
    write_weights(run, list(HEADS), backbone=backbone, mine=weights)
    of_head = {
        "best": {"metric": "combined", "value": value, "step": 7},
        "heads": {name: {"data": {"valid": {"sha256": "0" * 64}}} for name in HEADS},
        **training,
    }
    commit_best(run, backbone=BACKBONE, heads=HEADS, training=dict.fromkeys(HEADS, of_head))
    return next(iter(backbone.values()))


@pytest.mark.parametrize("links", [True, False])
def test_each_is_a_checkpoint_of_its_own(tmp_path, monkeypatch, links):
    if not links:

        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    write(tmp_path, 2.0)
    write(tmp_path, 0.5)
    shutil.rmtree(tmp_path / "best" / "b")  # whatever becomes of the others
    checkpoint.verify(tmp_path / "best" / "a")
    potential = checkpoint.load(tmp_path / "best" / "a")
    assert potential.head_names == ("a",)
    assert all((p == 0.5).all() for p in potential.parameters())
    assert checkpoint.read_training(tmp_path / "best" / "a")["best"]["step"] == 7
    assert sorted(path.name for path in (tmp_path / "best").iterdir()) == ["a"]


def test_what_is_there_is_known_when_a_run_is_continued(tmp_path):
    write(tmp_path, 0.5)
    known = {"a": "0" * 64, "b": "0" * 64}
    assert read_best(tmp_path, "combined", known) == {"a": 0.5, "b": 0.5}
    assert read_best(tmp_path, "forces_mae", known) == {}
    assert read_best(tmp_path, "combined", {**known, "b": "1" * 64}) == {"a": 0.5}
    (tmp_path / "best" / "a" / "training.json").write_text("{}")
    assert read_best(tmp_path, "combined", known) == {"b": 0.5}
    assert read_best(tmp_path / "absent", "combined", known) == {}
