"""The command `gfm plan`."""

import json
from pathlib import Path

import pytest
from tiny_run import BATCH_SIZES, write_run

from gfmcalc.cli import main


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("plan"))


def test_the_table_shows_who_owns_what(run_file: Path, capsys) -> None:
    assert main(["plan", str(run_file), "--ranks", "7", "--steps", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("7 ranks, placement wrap-around, 12 structures per step")
    for name, size in BATCH_SIZES.items():
        [row] = [line.split() for line in lines if line.startswith(f"{name} ")]
        assert row[2] == str(size)
    assert lines[-1].startswith("balance of 2 steps")


def test_overrides_may_come_anywhere(run_file: Path, capsys) -> None:
    words = ["--ranks", "7", "--steps", "1", "training.placement=whole-ranks"]
    assert main(["plan", str(run_file), "heads.rmd17.batch_size=3", *words]) == 0
    out = capsys.readouterr().out
    assert out.startswith("7 ranks, placement whole-ranks, 13 structures per step")


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_picture_is_of_the_kind_asked_for(run_file: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"plan{suffix}"
    assert main(["plan", str(run_file), "--ranks", "3", "--steps", "1", "--plot", str(out)]) == 0
    beginnings = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    assert out.read_bytes().startswith(beginnings[suffix])


PREDICTED = ["--machine", "frontier", "--cost", "20,84,35", "--steps", "1"]


def test_times_on_a_machine(run_file: Path, capsys) -> None:
    assert main(["plan", str(run_file), "--ranks", "4", *PREDICTED]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "cost of a step: 20 ms a pass, 84 µs an atom, 35 µs an edge (as given)"
    rows = {line.split()[0]: line.split() for line in lines if line}
    for name in ("ddp", "wrap-around", "whole-ranks", "sharded"):
        assert rows[name][1:3] == ["4", "12"]


@pytest.mark.parametrize("kind", ["strong", "weak"])
def test_scaling_is_a_table_a_picture_and_figures(
    run_file: Path, tmp_path: Path, capsys, kind: str
) -> None:
    picture, figures = tmp_path / "scaling.svg", tmp_path / "scaling.json"
    words = ["--scaling", kind, "--devices", "1,8,16", "--batch", "24", "--plot", str(picture)]
    assert main(["plan", str(run_file), *words, "--json", str(figures), *PREDICTED]) == 0
    assert f"{kind} scaling on Frontier" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"<?xml")
    found = json.loads(figures.read_text(encoding="utf-8"))
    batches = [p["batch_size"] for p in found["predictions"] if p["strategy"] == "ddp"]
    assert batches == ([24.0, 24.0, 24.0] if kind == "strong" else [24.0, 192.0, 384.0])
    assert found["cost"]["per_edge"] == 35e-6


def test_weak_scaling_keeps_what_a_rank_of_the_run_has(run_file: Path, capsys) -> None:
    words = ["--scaling", "weak", "--devices", "1,2", "--ranks", "4"]
    assert main(["plan", str(run_file), *words, *PREDICTED]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line[:4] == "ddp "]
    assert [row[1:3] for row in rows] == [["1", "3"], ["2", "6"]]


def test_the_cost_is_measured_here(run_file: Path, capsys) -> None:
    words = ["--ranks", "2", "--steps", "1", "--measure", "training.cost_of_atom=measure"]
    assert main(["plan", str(run_file), *words]) == 0
    assert "measured now on one thread of a CPU" in capsys.readouterr().out


def test_a_cost_that_was_measured_on_the_device_has_no_band_of_rates(
    run_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "figures.json"
    words = ["--ranks", "1", "--on-device", "--json", str(out), *PREDICTED]
    assert main(["plan", str(run_file), *words]) == 0
    steps = json.loads(out.read_text(encoding="utf-8"))["predictions"][0]["steps"]
    assert len({steps[case][0]["compute"] for case in ("slow", "likely", "fast")}) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--ranks N is missing, or --scaling"),
        (["--scaling", "weak"], "--scaling needs --machine frontier"),
        (["--ranks", "2", "--json", "a.json"], "--json needs --machine"),
        (["--ranks", "2", "--plot", "a.doc"], "--plot must end in .png, .svg or .pdf, got a.doc"),
        (["--ranks", "2", *PREDICTED, "--jitter", "-1"], "--jitter must not be negative, got -1"),
        (["--ranks", "2", "--machine", "summit"], "one of aurora, frontier, perlmutter, or a file"),
        (["--ranks", "2", "--machine", "aurora"], "measure it here with --measure"),
        (["--ranks", "2", "--machine", "aurora", "--cost", "1,2"], "must be three numbers"),
        (["--ranks", "2", "--machine", "aurora", "--cost", "1,0,0"], "must be three numbers"),
        (["--scaling", "weak", *PREDICTED], "weak scaling needs --batch B"),
        (["--scaling", "strong", "--devices", "9-3", *PREDICTED], "got '9-3'"),
        (["--scaling", "strong", "--batch", "0", *PREDICTED], "--batch must be positive"),
    ],
)
def test_wrong_questions_are_errors_of_one_line(run_file: Path, words, message, capsys) -> None:
    assert main(["plan", str(run_file), *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ranks", "0"], "--ranks must be at least 1, got 0"),
        (["--ranks", "2", "--steps", "0"], "--steps must be at least 1, got 0"),
        (["--ranks", "2", "training.placemen=x"], "did you mean 'training.placement'?"),
        (["--ranks", "2", "heads.wb97x.train=none.xyz"], "none.xyz"),
    ],
)
def test_errors_are_one_line(run_file: Path, words, message, capsys) -> None:
    assert main(["plan", str(run_file), *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
