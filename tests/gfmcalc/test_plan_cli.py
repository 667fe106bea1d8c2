"""The command `gfm plan`."""

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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ranks", "0"], "--ranks must be at least 1, got 0"),
        (["--ranks", "2", "--steps", "0"], "--steps must be at least 1, got 0"),
        (["--ranks", "2", "training.placemen=x"], "did you mean 'training.placement'?"),
        (["--ranks", "2", "heads.wb97x.train=none.xyz"], "none.xyz"),
        (["--ranks", "2", "--plot", "a.doc"], "doc"),
    ],
)
def test_errors_are_one_line(run_file: Path, words, message, capsys) -> None:
    assert main(["plan", str(run_file), *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
