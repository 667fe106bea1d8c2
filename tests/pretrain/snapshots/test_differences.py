from dataclasses import fields, is_dataclass
from typing import get_type_hints

import pytest
from gfm_models.backbone import BackboneConfig
from gfm_pretrain.config import RunConfig
from gfm_pretrain.head_options import HeadOptions
from gfm_pretrain.snapshots.differences import (
    FATES,
    FREE,
    REFUSED,
    Difference,
    changed_settings,
    fate_of,
    problem_with,
)

OLD = {
    "run": "runs/a",
    "seed": 0,
    "model": {"cutoff": 5.0},
    "heads": {
        "a": {"batch_size": 4, "reference_energies": {"H": -13.6}, "labels": ["energy"]},
        "b": {"batch_size": None, "reference_energies": "auto", "labels": ["energy"]},
    },
    "training": {"steps": 10, "learning_rate": 0.1, "freeze_backbone": False},
    "resume": {"rename": {}, "accept": []},
}


def changed(**changes) -> list[Difference]:
    return changed_settings(OLD, {**OLD, **changes})


def test_nothing_changed():
    assert changed() == []


def test_each_change_is_told_with_old_and_new():
    heads = {
        "a": {"batch_size": 4, "reference_energies": {"H": -13.7}, "labels": ["energy", "forces"]},
        "b": {"batch_size": 8, "reference_energies": "auto", "labels": ["energy"]},
    }
    training = {"steps": 20, "learning_rate": 0.1, "freeze_backbone": True}
    found = changed(seed=5, heads=heads, training=training)
    assert [str(d) for d in found] == [
        "seed 0 → 5",
        "heads.a.reference_energies {H: -13.6} → {H: -13.7}",
        "heads.a.labels [energy] → [energy, forces]",
        "heads.b.batch_size nothing → 8",
        "training.steps 10 → 20",
        "training.freeze_backbone false → true",
    ]
    assert [d.fate for d in found] == [REFUSED, REFUSED, FREE, "mixture", FREE, "optimizer"]


def test_heads_that_only_one_has_are_no_settings_that_changed():
    heads = {"b": OLD["heads"]["b"], "c": {"batch_size": 1}}
    assert changed(heads=heads) == []


def test_settings_that_only_one_version_has_are_left_out():
    assert changed_settings({"seed": 0, "gone": 1}, {"seed": 0, "new": {"a": 1}}) == []


PROBLEM = (
    "runs/a cannot be continued from step 900: seed 0 → 5 (cannot change); "
    "dtype float32 → float64 (cannot change); loss.delta 0.05 → 0.1 (loss); "
    "mixture.by explicit → size (mixture). Either say resume.accept=[optimizer, loss, mixture] if "
    "the changes are meant, or put back what cannot change, or choose another folder with "
    "run=FOLDER"
)


def difference(name: str, old, new) -> Difference:
    return Difference(name=name, old=old, new=new, fate=fate_of(name))


def test_everything_is_in_one_line_with_the_ways_out():
    differences = [
        difference("training.steps", 10, 20),
        difference("loss.delta", 0.05, 0.1),
        difference("seed", 0, 5),
        difference("training.clip_norm", 1.0, 2.0),
        difference("mixture.by", "explicit", "size"),
        difference("dtype", "float32", "float64"),
    ]
    assert problem_with(differences, ("optimizer",), run="runs/a", step=900) == PROBLEM


def test_only_what_cannot_change():
    found = problem_with([difference("seed", 0, 5)], (), run="runs/a", step=900)
    assert found == (
        "runs/a cannot be continued from step 900: seed 0 → 5 (cannot change). Either put back "
        "what cannot change, or choose another folder with run=FOLDER"
    )


def test_what_is_free_or_accepted_is_no_problem():
    differences = [difference("training.steps", 1, 2), difference("loss.delta", 1, 2)]
    assert problem_with(differences, ("loss",), run="runs/a", step=900) is None
    assert problem_with(differences, ("mixture",), run="runs/a", step=900) is not None


def options_of(cls: type, prefix: str = "") -> list[str]:
    hints = get_type_hints(cls)
    names = []
    for field in fields(cls):
        inner = (hints[field.name], *getattr(hints[field.name], "__args__", ()))
        section = next((t for t in inner if is_dataclass(t) and isinstance(t, type)), None)
        if section is HeadOptions:
            names += options_of(HeadOptions, f"{prefix}heads.name.")
        elif section is not None:
            names += options_of(section, f"{prefix}{field.name}.")
        else:
            names.append(f"{prefix}{field.name}")
    return names


MEANT_TO_BE_REFUSED = {
    *("seed", "dtype"),
    *(f"heads.name.{name}" for name in ("valid_fraction", "width", "inherit")),
    *(f"heads.name.{name}" for name in ("energy_key", "forces_key", "stress_key")),
    "heads.name.reference_energies",
}


def test_every_option_has_a_fate_that_somebody_thought_of():
    """A new option fails here until it is in `FATES`, or in the list above."""
    names = options_of(RunConfig)
    assert len(names) > 60
    assert {name for name in names if fate_of(name) == REFUSED} == MEANT_TO_BE_REFUSED
    assert fate_of("model.channels") == FREE  # architectures are compared, not this setting
    assert {f"model.{f.name}" for f in fields(BackboneConfig)} <= set(names)


def test_no_fate_is_for_an_option_that_is_gone():
    names = options_of(RunConfig)
    words = {"*", "heads.*", "init_from", "model"}
    patterns = {pattern for pattern, _ in FATES if "*" not in pattern} - words
    assert patterns <= set(names)
    of_heads = {p.replace("*", "name") for p, _ in FATES if p.startswith("heads.*.")}
    assert of_heads <= set(names)


@pytest.mark.parametrize("name", ["training.steps", "run", "guard.window", "snapshots.best"])
def test_what_may_change(name):
    assert fate_of(name) == FREE
