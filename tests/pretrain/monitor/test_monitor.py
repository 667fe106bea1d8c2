import json
from pathlib import Path
from typing import Any

from gfm_pretrain.monitor.monitor import Monitor
from gfm_pretrain.monitor.options import MonitorOptions
from gfm_pretrain.monitor.run_log import logging_to
from made_up_run import SECONDS, made_up_facts, made_up_step, made_up_world


def monitor_of(run: Path, *, rank: int = 0, facts=None) -> Monitor:
    return Monitor(
        run, facts or made_up_facts(), options=MonitorOptions(), world=made_up_world(rank=rank)
    )


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def do_step(monitor: Monitor, step: int, *, seconds: float, losses=None) -> None:
    result = made_up_step(step, losses or {"a": 1.23456, "b": 0.5})
    done = step / monitor.facts.total_steps
    monitor.step(result, own_activities=SECONDS, done=done, seconds=seconds)


def test_what_is_said_is_in_the_log_and_on_the_terminal(tmp_path, capfd):
    monitor = monitor_of(tmp_path)
    with logging_to(tmp_path, speaks=True):
        monitor.say("[bold] loss: 3 eV/Å")
    monitor.say("after the run")
    assert capfd.readouterr().err == "[bold] loss: 3 eV/Å\nafter the run\n"
    log = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert log.endswith(" [bold] loss: 3 eV/Å\n")
    assert log.count("\n") == 1


def test_other_ranks_say_nothing(tmp_path, capfd):
    with logging_to(tmp_path, speaks=False), monitor_of(tmp_path, rank=1) as monitor:
        monitor.begin(0, seconds=0.0)
        with monitor.following():
            monitor.say("hello")
            monitor.evaluation("before", 0, {"a": {"forces_mae": 1.0}})
            do_step(monitor, 1, seconds=1.0)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_progress_tells_the_time_left_the_speed_and_the_losses(tmp_path, capfd):
    with monitor_of(tmp_path) as monitor:
        monitor.begin(0, seconds=0.0)
        with monitor.following():
            do_step(monitor, 1, seconds=1000.0)
            do_step(monitor, 2, seconds=1001.0)
            do_step(monitor, 5, seconds=1002.0)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "step 1/5, 1:06:40 left, 0.008 structures/s, loss: a 1.23 b 0.5"
    assert [line.split(",")[0] for line in lines] == ["step 1/5", "step 5/5"]
    assert "0:00 left" in lines[1]
