"""`gfm watch` on the metrics of runs, as they are on disk."""

import json
from pathlib import Path

import pytest

from gfmcalc.cli import main

RUN = {
    "kind": "run",
    "step": 0,
    "time": "2026-01-02T03:04:05+00:00",
    "ranks": 2,
    "launcher": "mpi",
    "device": "cpu",
    "host": "node7",
    "total_steps": 10,
    "heads": {"water": {}, "copper": {}},
}
TRAIN = {
    "kind": "train",
    "step": 10,
    "done": 1.0,
    "loss": 3.0,
    "losses": {"water": 1.0, "copper": 2.0},
    "skipped": False,
    "gradient_norm": 1.0,
    "learning_rate": 0.1,
}
VALID = {"kind": "valid", "step": 10, "heads": {"water": {"forces_mae": 0.0123}, "copper": {}}}
FINISHED = {"kind": "event", "step": 10, "event": "finished", "time": "2026-01-02T04:00:00+00:00"}


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    lines = "".join(json.dumps(record) + "\n" for record in (RUN, TRAIN, VALID, FINISHED))
    (folder / "metrics.jsonl").write_text(lines)
    return folder


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.parametrize("options", [(), ("--follow",)])
def test_a_run_is_shown(run, capsys, options):
    assert main(["watch", str(run), *options]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    text = " ".join(word for line in lines for word in line)
    assert f"{run}: finished at step 10, 2026-01-02 04:00:00+00:00" in text
    assert "on 2 ranks (mpi, cpu, node7)" in text
    assert ["water", "1", "12.3"] in lines
    assert ["copper", "2", "-"] in lines
    assert ["all", "3"] in lines


def test_learning_curves_are_drawn(run, capsys, tmp_path):
    assert main(["watch", str(run), "--plot", str(tmp_path / "curves.png")]) == 0
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.endswith(f"picture: {tmp_path / 'curves.png'}\n")


def test_what_is_no_run_is_one_line(capsys, tmp_path):
    assert main(["watch", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.err == (
        f"gfm: error: {tmp_path} has no metrics.jsonl: it is not a run, or nothing was computed "
        "yet\n"
    )
    assert captured.out == ""


def test_a_damaged_line_is_named(run, capsys):
    (run / "metrics.jsonl").write_text("{}\n")
    assert main(["watch", str(run)]) == 2
    assert "metrics.jsonl, line 1: not a line of metrics" in capsys.readouterr().err
