import json
from pathlib import Path
from typing import Any

import pytest
from gfm_pretrain.monitor.monitor import Monitor
from gfm_pretrain.monitor.options import MonitorOptions
from gfm_pretrain.monitor.run_log import logging_to
from made_up_run import SECONDS, made_up_deals, made_up_facts, made_up_step, made_up_world


def monitor_of(run: Path, *, rank: int = 0, facts=None, every_seconds: float = 15.0) -> Monitor:
    options = MonitorOptions(every_seconds=every_seconds)
    world = made_up_world(rank=rank)
    return Monitor(run, facts or made_up_facts(), options=options, world=world)


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
        monitor.begin(0, seconds=0.0, deals=made_up_deals())
        with monitor.following():
            monitor.say("hello")
            monitor.evaluation("before", 0, {"a": {"forces_mae": 1.0}})
            do_step(monitor, 1, seconds=1.0)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_progress_tells_the_time_left_the_speed_and_the_losses(tmp_path, capfd):
    with monitor_of(tmp_path) as monitor:
        monitor.begin(0, seconds=0.0, deals=made_up_deals())
        with monitor.following():
            do_step(monitor, 1, seconds=1000.0)
            do_step(monitor, 2, seconds=1001.0)
            do_step(monitor, 5, seconds=1002.0)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "step 1/5, 1:06:40 left, 0.008 structures/s, loss: a 1.23 b 0.5"
    assert [line.split(",")[0] for line in lines] == ["step 1/5", "step 5/5"]
    assert "0:00 left" in lines[1]


def kinds_in(run: Path) -> list[str]:
    return [line.get("event", line["kind"]) for line in lines_of(run)]


def test_reports_come_often_at_first_and_then_in_their_time(tmp_path):
    facts = made_up_facts(total_steps=1000)
    with monitor_of(tmp_path, facts=facts, every_seconds=8.0) as monitor:
        monitor.begin(100, seconds=50.0, deals=made_up_deals())
        for step in range(101, 141):
            do_step(monitor, step, seconds=50.0 + step - 100)
    reported = [line["step"] - 100 for line in lines_of(tmp_path) if line["kind"] == "rates"]
    assert reported == [1, 2, 4, 8, 16, 24, 32, 40]


def test_the_lines_of_a_run(tmp_path):
    with monitor_of(tmp_path) as monitor:
        monitor.evaluation("before", 0, {})  # not recorded: the run has not begun
        monitor.begin(0, seconds=0.0, deals=made_up_deals())
        monitor.evaluation("before", 0, {"a": {"forces_mae": 1.0}, "b": {}})
        do_step(monitor, 1, seconds=0.5)
        monitor.event("snapshot", 1)
    assert kinds_in(tmp_path) == ["run", "before", "train", "rates", "snapshot"]
    run, before, train, rates, snapshot = lines_of(tmp_path)
    assert run["ranks"] == 1
    assert run["total_steps"] == 5
    assert run["settings"]["seed"] == 1
    assert set(run["versions"]) == {"gfmcalc", "torch", "python"}
    assert run["heads"]["a"] == {
        "structures": 40,
        "per_step": 4.0,
        "weight": 1.0,
        "ranks": 1,
        "level_of_theory": "PBE",
    }
    assert before["heads"]["a"] == {"forces_mae": 1.0}
    assert train["loss"] == pytest.approx(1.73456)
    assert train["losses"] == {"a": 1.23456, "b": 0.5}
    assert rates["per_second"] == pytest.approx({"structures": 16, "atoms": 160, "edges": 1600})
    assert rates["heads"]["b"]["epochs"] == pytest.approx(0.1)
    assert sum(rates["time_mean"].values()) == pytest.approx(1.0)
    assert rates["time_max"]["forward"] == {"part": pytest.approx(0.06), "rank": 0}
    assert rates["memory_max"]["resident"]["bytes"] > 1e7
    assert snapshot["step"] == 1


def test_the_time_that_is_left_counts_pauses_and_the_limit(tmp_path, monkeypatch):
    wall = [1000.0]
    monkeypatch.setattr("gfm_pretrain.monitor.monitor.time.monotonic", lambda: wall[0])
    facts = made_up_facts(total_steps=1000, max_minutes=10.0)
    with monitor_of(tmp_path, facts=facts) as monitor:
        monitor.begin(0, seconds=0.0, deals=made_up_deals())
        wall[0] += 500.0  # the errors before training are not part of it
        with monitor.following():
            wall[0] += 20.0
            do_step(monitor, 1, seconds=10.0)
            wall[0] += 180.0
            do_step(monitor, 10, seconds=590.0)
    left = [line["seconds_left"] for line in lines_of(tmp_path) if line["kind"] == "rates"]
    assert left[0] == pytest.approx(2 * 590.0)
    assert left[1] == pytest.approx(10.0)


def test_a_run_that_goes_on_knows_what_was(tmp_path):
    with monitor_of(tmp_path) as monitor:
        monitor.begin(0, seconds=0.0, deals=made_up_deals())
        for step in (1, 2, 3):
            do_step(monitor, step, seconds=step)
        monitor.evaluation("valid", 3, {"a": {"forces_mae": 0.5}})
    with monitor_of(tmp_path) as monitor:
        monitor.begin(3, seconds=3.0, deals=made_up_deals())
        assert monitor.state.errors["a"] == {"forces_mae": 0.5}
        assert monitor.state.loss_of("b") == 0.5
    with monitor_of(tmp_path) as monitor:
        monitor.begin(1, seconds=1.0, deals=made_up_deals())
        do_step(monitor, 2, seconds=2.0)
    lines = lines_of(tmp_path)
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2]
    starts = [line for line in lines if line["kind"] == "run"]
    assert [line["step"] for line in starts] == [0, 1]
    assert starts[0]["id"] == starts[1]["id"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ZeroDivisionError("a\nb"), {"event": "failed", "reason": "ZeroDivisionError: a b"}),
        (KeyboardInterrupt(), {"event": "failed", "reason": "KeyboardInterrupt"}),
        (SystemExit(0), None),
    ],
)
def test_how_a_run_ended_is_recorded(tmp_path, error, told):
    def run() -> None:
        with monitor_of(tmp_path) as monitor:
            monitor.begin(0, seconds=0.0, deals=made_up_deals())
            do_step(monitor, 1, seconds=1.0)
            raise error

    with pytest.raises(type(error)):
        run()
    last = lines_of(tmp_path)[-1]
    assert {key: last.get(key) for key in ("event", "reason")} == (
        told or {"event": None, "reason": None}
    )


def test_the_table_of_heads_is_said_now_and_then(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("gfm_pretrain.monitor.monitor.LINES_PER_TABLE", 3)
    facts = made_up_facts(total_steps=100)
    with monitor_of(tmp_path, facts=facts, every_seconds=1.0) as monitor:
        monitor.begin(0, seconds=0.0, deals=made_up_deals())
        for step in range(1, 7):
            do_step(monitor, step, seconds=step)
    said = capfd.readouterr().err
    assert said.count("structures/s, loss: ") == 6
    assert said.count("head  loss") == 2


def test_a_log_that_cannot_be_written_is_told_once(tmp_path, capfd):
    (tmp_path / "log.txt").symlink_to("/dev/full")
    with logging_to(tmp_path, speaks=True):
        monitor = monitor_of(tmp_path)
        monitor.say("one")
        monitor.say("two")
    said = capfd.readouterr().err.splitlines()
    assert said == [f"cannot write {tmp_path}/log.txt: No space left on device", "one", "two"]
