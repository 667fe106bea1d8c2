import sys

import pytest

from gfmcalc.cli import main

RUN = "demo/run.yaml"


def test_the_script_and_nothing_else_is_printed(capsys):
    words = ["plan", RUN, "--ranks", "20", "--script", "frontier", "--account", "abc123"]
    assert main([*words, "--time", "00:30:00", "training.steps=7"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.startswith("#!/bin/bash\n")
    assert "#SBATCH --account=abc123\n" in printed.out
    assert "#SBATCH --time=00:30:00\n" in printed.out
    assert f"python={sys.prefix}/bin/python\n" in printed.out
    assert f"-m gfm_pretrain.cli {RUN} training.steps=7 &\n" in printed.out


def test_options_reach_the_script(capsys):
    given = ["--name", "big", "--queue", "gpus", "--ranks_per_node", "4", "--cpus-per-rank", "6"]
    given += ["--gpus-per-node", "4", "--setup", "module load a", "--setup", "module load b"]
    given += ["--environment", "/shared/env", "--warn", "120"]
    assert main(["plan", RUN, "--ranks", "8", "--script", "slurm", *given]) == 0
    out = capsys.readouterr().out
    for line in (
        *("#SBATCH --job-name=big", "#SBATCH --partition=gpus", "#SBATCH --nodes=2"),
        *("#SBATCH --ntasks-per-node=4", "#SBATCH --cpus-per-task=6", "#SBATCH --gpus-per-node=4"),
        *("module load a\nmodule load b", "python=/shared/env/bin/python"),
        "#SBATCH --signal=B:USR1@120",
    ):
        assert f"{line}\n" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--script", "slurm"], "gfm: error: --ranks N is missing"),
        (["--script", "frontier", "--ranks", "8"], "gfm: error: --script frontier needs --account"),
        (
            ["--script", "slurm", "--ranks", "8", "--time", "1h"],
            "gfm: error: --time must be HH:MM:SS, got '1h'\n",
        ),
        (
            ["--script", "slurm", "--ranks", "8", "--account", "a", "training.stepz=3"],
            "gfm: error: ",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_no_script(capsys, words, said):
    assert main(["plan", RUN, *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(said)
    assert printed.err.count("\n") == 1


def test_an_unknown_site_is_refused_with_those_there_are(capsys):
    with pytest.raises(SystemExit):
        main(["plan", RUN, "--ranks", "8", "--script", "summit"])
    assert "'summit' (choose from" in capsys.readouterr().err
