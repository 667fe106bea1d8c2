import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from gfm_pretrain.data.labels import FoundLabel, LabelTable
from gfm_pretrain.monitor import Monitor, logging_to
from gfm_pretrain.process import World
from gfm_pretrain.report import error_table, label_table, placement_table
from gfm_pretrain.setup import Setup
from gfm_pretrain.step_result import StepResult


def test_metrics_are_lines_of_json(tmp_path):
    monitor = Monitor(tmp_path, speaks=True, total_steps=5)
    monitor.record("train", 1, seconds=0.1 + 0.2, losses={"a": 1e-30})
    Monitor(tmp_path, speaks=True, total_steps=5).record("valid", 2, heads={"ä": {}})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [
        {"kind": "train", "step": 1, "seconds": 0.1 + 0.2, "losses": {"a": 1e-30}},
        {"kind": "valid", "step": 2, "heads": {"ä": {}}},
    ]


def step(number: int, **losses: float) -> StepResult:
    return StepResult(
        step=number,
        losses=losses,
        gradient_norm=1.0,
        learning_rate=0.1,
        sizes={},
        balance=1.0,
        seconds={},
        bytes_sent=0.0,
        stop=False,
    )


def test_what_is_said_is_in_the_log_and_on_the_terminal(tmp_path, capfd):
    monitor = Monitor(tmp_path, speaks=True, total_steps=5)
    with logging_to(tmp_path, speaks=True):
        monitor.say("[bold] loss: 3 eV/Å")
    monitor.say("after the run")
    assert capfd.readouterr().err == "[bold] loss: 3 eV/Å\nafter the run\n"
    log = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert log.endswith(" [bold] loss: 3 eV/Å\n")
    assert log.count("\n") == 1


def test_other_ranks_say_nothing(tmp_path, capfd):
    monitor = Monitor(tmp_path, speaks=False, total_steps=1)
    with logging_to(tmp_path, speaks=False), monitor.progress(0):
        monitor.say("hello")
        monitor.record("train", 1)
        monitor.step(step(1, a=1.0), done=1.0, seconds=1.0)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_progress_tells_the_time_left_and_the_losses(tmp_path, capfd):
    monitor = Monitor(tmp_path, speaks=True, total_steps=5)
    with monitor.progress(0):
        monitor.step(step(1, a=1.23456, b=0.5), done=0.2, seconds=1000.0)
        monitor.step(step(2, a=1.0, b=0.5), done=0.4, seconds=1001.0)
        monitor.step(step(5, a=1.0, b=0.5), done=1.0, seconds=1002.0)
    assert capfd.readouterr().err.splitlines() == [
        "step 1/5, 1:06:40 left, loss: a 1.23 b 0.5",
        "step 5/5, 0:00 left, loss: a 1 b 0.5",
    ]


def test_errors_are_in_milli_units():
    errors = {
        "before": {"a": {"energy_mae_per_atom": 1.0, "forces_mae": 0.5, "forces_rmse": 0.75}},
        "after": {"a": {"energy_mae_per_atom": 0.0123, "forces_mae": 0.02}, "b": {}},
    }
    lines = error_table(errors).splitlines()
    assert lines[0].startswith("head")
    assert lines[2].split() == ["a", "before", "1000.0", "500.0", "750.0", "-"]
    assert lines[3].split() == ["a", "after", "12.3", "20.0", "-", "-"]
    assert len(lines) == 4


def test_without_errors_the_table_is_empty():
    assert len(error_table({"before": {}}).splitlines()) == 2


@pytest.fixture
def setup() -> Setup:
    def found(label: str, key: str | None, n: int, *ignored: str) -> FoundLabel:
        return FoundLabel(label=label, key=key, n_structures=n, ignored=ignored)

    table = LabelTable(
        path=cast(Any, None),
        n_structures=12,
        energy=found("energy", "REF_energy", 12, "energy"),
        forces=found("forces", "forces", 7),
        stress=found("stress", None, 0),
    )
    config = SimpleNamespace(level_of_theory="PBE", elements=("H", "O"), reference_origin="fit")
    summary = SimpleNamespace(config=config, tables={"train": table})
    return cast(Setup, SimpleNamespace(summaries={"water": summary}, owners={"water": (1, 2)}))


def test_labels_are_shown_with_their_keys_and_those_passed_over(setup):
    row = label_table(setup).splitlines()[2]
    assert " ".join(row.split()) == "water train 12 12 (REF_energy, not energy) 7 (forces) none"


def test_owners_are_shown(setup):
    world = cast(World, SimpleNamespace(size=4))
    row = placement_table(setup, world).splitlines()[2]
    assert row.split() == ["water", "PBE", "H", "O", "fit", "1,", "2", "of", "4"]
