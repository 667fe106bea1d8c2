"""What is wrong with a command line is said once, by whatever number of ranks it is found."""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from gfm_pretrain.command_line import parse_once
from launch import REPOSITORY, launch

GFM_PRETRAIN = REPOSITORY / "pretrain" / "gfm_pretrain" / "cli.py"
GFM = REPOSITORY / "gfmcalc" / "cli.py"
N_AT_ONCE = 2
JOBS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "mistake": ([GFM_PRETRAIN, "--nonsense", "run.yaml"], {"n_ranks": 3}),
    "mistake, torchrun": ([GFM_PRETRAIN], {"n_ranks": 2, "launcher": "torchrun"}),
    "help": ([GFM_PRETRAIN, "--help"], {"n_ranks": 2}),
    "mistake of gfm data import": ([GFM, "data", "import", "extxyz"], {"n_ranks": 2}),
}


@pytest.fixture(scope="module")
def job() -> Iterator[Callable[[str], subprocess.CompletedProcess[str]]]:
    """What one of the jobs said; all of them start when the first is asked for."""
    with ThreadPoolExecutor(N_AT_ONCE) as pool:
        results = {
            name: pool.submit(launch, *words, **options) for name, (words, options) in JOBS.items()
        }
        yield lambda name: results[name].result()


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mistake", "gfm-pretrain: error: unrecognized arguments: --nonsense"),
        ("mistake, torchrun", "gfm-pretrain: error: the following arguments are required: config"),
        (
            "mistake of gfm data import",
            "gfm data import: error: the following arguments are required: FILE, --out",
        ),
    ],
)
def test_several_ranks_say_a_mistake_once(job, name, said):
    result = job(name)
    assert result.returncode == (1 if "torchrun" in name else 2)  # torchrun has no other
    assert result.stderr.count(f"{said}\n") == 1
    assert result.stderr.count("usage: gfm") == 1
    assert "Error: " not in result.stderr.partition("Traceback")[0]


@pytest.mark.mpi
def test_several_ranks_give_help_once(job):
    result = job("help")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("usage: gfm-pretrain") == 1
    assert result.stdout.count("configuration of the run, YAML") == 1


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="prog")
    parser.add_argument("number", type=int)
    return parse_once(lambda: parser.parse_args(words), program="prog")


def test_alone_argparse_speaks_for_itself(no_launcher, capsys):
    assert parse("3").number == 3
    with pytest.raises(SystemExit, match="2"):
        parse("three")
    assert capsys.readouterr().err.endswith(
        "prog: error: argument number: invalid int value: 'three'\n"
    )


@pytest.mark.parametrize(("rank", "said"), [("0", 1), ("2", 0)])
def test_before_they_meet_the_announced_rank_0_gives_help(
    no_launcher, monkeypatch, capsys, rank, said
):
    monkeypatch.setenv("PMI_RANK", rank)
    monkeypatch.setenv("PMI_SIZE", "3")
    assert parse("3").number == 3
    with pytest.raises(SystemExit, match="0"):
        parse("--help")
    assert capsys.readouterr().out.count("usage: prog") == said


def test_the_command_line_is_read_before_torch_is():
    code = "import gfm_pretrain.command_line, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
