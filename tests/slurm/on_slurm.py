"""Runs under a real Slurm: `make slurm`. Not part of `make test`, which has no Slurm."""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import PMIX, WAIT_SECONDS, Cluster, cluster, missing_programs
from launch import REPOSITORY
from mpi_environments import mpi_environment
from same_result import ENVIRONMENT, GFM_PRETRAIN, SMALLEST, largest_difference, run_alone
from tiny_run import write_run

WORLD_PROGRAM = REPOSITORY / "tests" / "pretrain" / "programs" / "world_program.py"
# Node names do not resolve here: all nodes are this machine.
HERE = {**ENVIRONMENT, "MASTER_ADDR": "127.0.0.1"}
LONG = ("training.steps=60", "training.validate_every=1000", "snapshots.every_steps=1000")
AFTER_MANY_STEPS = 1e-9
needs_pmix = pytest.mark.skipif(not PMIX.exists(), reason="libpmix-dev is not installed")


@pytest.fixture(scope="session")
def slurm() -> Iterator[Cluster]:
    assert not missing_programs(), f"run tests/slurm/install.sh: no {missing_programs()}"
    folder = Path(tempfile.mkdtemp(prefix="gfm-slurm-", dir="/tmp"))  # munge's path must be short
    try:
        with cluster(folder) as found:
            yield found
    except BaseException:
        print_logs(folder)
        raise
    finally:
        shutil.rmtree(folder)


def print_logs(folder: Path) -> None:
    for file in sorted(folder.rglob("log/*.log")):
        sys.stderr.write(f"== {file.name}\n{file.read_text()[-2000:]}\n")


@pytest.fixture(scope="session")
def run_file(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def alone(run_file) -> Path:
    """The same run of one process."""
    folder = run_file.parent / "alone"
    run_alone(run_file, f"run={folder}")
    return folder


@pytest.fixture(scope="session")
def alone_long(run_file) -> Path:
    folder = run_file.parent / "alone-long"
    run_alone(run_file, f"run={folder}", *LONG)
    return folder


def srun(slurm: Cluster, *words: object, python: Path | str = sys.executable, **environ: str):
    """Run Python by srun; the options are the first words, up to `--`."""
    options = list(map(str, words))
    split = options.index("--")
    command = ["srun", "--kill-on-bad-exit=1", *options[:split], python, *options[split + 1 :]]
    return slurm.run(*command, environ={**HERE, **environ})


@pytest.mark.parametrize("options", [("-N1", "-n2"), ("-N2", "-n3")])
def test_without_mpi_the_result_is_that_of_one_process(slurm, run_file, alone, tmp_path, options):
    run = tmp_path / "run"
    told = srun(slurm, "--mpi=none", *options, "--", *GFM_PRETRAIN, run_file, f"run={run}")
    assert told.returncode == 0, told.stdout
    assert largest_difference(run, alone) < SMALLEST


@pytest.mark.parametrize(
    ("mpi", "options", "library", "launcher"),
    [
        ("none", ("-N2", "-n3"), "openmpi", "srun"),
        ("pmi2", ("-N2", "-n3"), "mpich", "mpi"),
        ("pmi2", ("-N1", "-n2"), "impi", "mpi"),
        ("pmi2", ("-N1", "-n2"), "openmpi", "srun"),  # Open MPI 5 speaks PMIx only
        pytest.param("pmix", ("-N1", "-n2"), "openmpi", "mpi", marks=needs_pmix),
        pytest.param("pmix", ("-N1", "-n2"), "mpich", "srun", marks=needs_pmix),
        pytest.param("pmix", ("-N1", "-n2"), "impi", "mpi", marks=needs_pmix),
    ],
)
def test_ranks_meet_by_mpi_where_srun_speaks_its_language(slurm, mpi, options, library, launcher):
    python = mpi_environment(library) / "bin" / "python"
    told = srun(slurm, f"--mpi={mpi}", *options, "--", WORLD_PROGRAM, "collectives", python=python)
    assert told.returncode == 0, told.stdout
    size = int(options[1].removeprefix("-n"))
    assert f'"launcher": "{launcher}", "size": {size}' in told.stdout
    places = {1: [[0, 0, 2], [1, 1, 2]], 2: [[0, 0, 2], [1, 1, 2], [2, 0, 1]]}
    if launcher == "srun":  # by MPI all nodes are one, for they share their memory
        assert f'"ranks": {places[int(options[0][2:])]}' in told.stdout


def test_by_mpi_the_result_is_that_of_one_process(slurm, run_file, alone, tmp_path):
    run, python = tmp_path / "run", mpi_environment("mpich") / "bin" / "python"
    words = ["--mpi=pmi2", "-N2", "-n3", "--", *GFM_PRETRAIN, run_file, f"run={run}"]
    told = srun(slurm, *words, python=python)
    assert told.returncode == 0, told.stdout
    assert largest_difference(run, alone) < SMALLEST


def test_one_torchrun_on_each_node(slurm, run_file, alone, tmp_path):
    run, torchrun = tmp_path / "run", ("-m", "torch.distributed.run")
    meeting = ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:29517", "--rdzv-id=7"]
    words = ["--nnodes=2", "--nproc-per-node=1", *meeting, *GFM_PRETRAIN, run_file, f"run={run}"]
    told = srun(slurm, "-N2", "-n2", "--", *torchrun, *words)
    assert told.returncode == 0, told.stdout
    assert largest_difference(run, alone) < SMALLEST


@pytest.mark.parametrize(
    ("options", "torchrun", "said"),
    [
        (("-N1", "-n2"), ("--nproc-per-node=1",), "srun started 2 torchruns on one node, whose"),
        (("-N2", "-n2"), ("--nproc-per-node=1",), "srun started 2 torchruns (SLURM_PROCID=0, "),
    ],
)
def test_torchruns_that_do_not_meet_are_told_once(slurm, run_file, options, torchrun, said):
    words = ["-m", "torch.distributed.run", "--standalone", *torchrun, *GFM_PRETRAIN, run_file]
    told = srun(slurm, *options, "--", *words)
    assert told.returncode != 0
    assert told.stdout.count(f"gfm-pretrain: error: LaunchError: {said}") == 1
    assert told.stdout.count("gfm-pretrain: error") == 1


def test_a_mistake_on_the_command_line_is_said_once(slurm):
    told = srun(slurm, "-n3", "--", *GFM_PRETRAIN, "--nonsense", "run.yaml")
    assert told.returncode == 2
    assert told.stdout.count("unrecognized arguments: --nonsense") == 1
    assert told.stdout.count("usage: ") == 1


def test_names_that_do_not_resolve_are_said(slurm, run_file):
    told = srun(slurm, "-N2", "-n2", "--", *GFM_PRETRAIN, run_file, MASTER_ADDR="")
    assert told.returncode == 1
    said = r"'n\d', where the ranks are to meet, does not resolve on .* set MASTER_ADDR"
    assert re.search(said, told.stdout)


def test_a_rank_that_is_killed_ends_the_job(slurm):
    told = srun(slurm, "-n2", "--", WORLD_PROGRAM, "kill_9")
    assert told.returncode in (137, 143)  # of the rank that was killed, or of the one ended then
    assert "task 1: Killed" in told.stdout


@pytest.fixture
def make_script(run_file, tmp_path) -> Callable[..., Path]:
    """What `gfm plan --script` writes for two ranks, for a run in tmp_path/run."""

    def make(*options: str, site: str = "slurm", settings: tuple[str, ...] = ()) -> Path:
        plan = ["-m", "gfmcalc.cli", "plan", run_file, "--ranks", "2", "--script", site, *options]
        told = subprocess.run(
            [sys.executable, *map(str, plan), f"run={tmp_path / 'run'}", *settings],
            env={**ENVIRONMENT, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        )
        script = tmp_path / "job.sh"
        script.write_text(told.stdout)
        return script

    return make


def log(script: Path) -> str:
    """What the job said, all its times in the queue."""
    return "".join(file.read_text() for file in script.parent.glob("*.out"))


def submit(slurm: Cluster, script: Path, *options: str) -> str:
    return slurm.submit(script, f"--chdir={script.parent}", *options, environ=HERE)


def test_the_script_that_plan_writes_runs(slurm, make_script, alone, tmp_path):
    script = make_script("--time", "00:10:00")
    facts = slurm.wait(submit(slurm, script))
    assert (facts["JobState"], facts["ExitCode"]) == ("COMPLETED", "0:0"), log(script)
    assert largest_difference(tmp_path / "run", alone) < SMALLEST


def test_two_nodes_and_an_environment_sent_to_them(slurm, make_script, alone, tmp_path):
    """The archive holds a Python that finds everything else where it is; nodes share a disk here,
    so one of them gets both ranks."""
    folder = tmp_path / "environment"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text(f'#!/bin/bash\nexec "{sys.executable}" "$@"\n')
    (folder / "bin" / "python").chmod(0o755)
    archive = tmp_path / "environment.tar.gz"
    subprocess.run(["tar", "-czf", archive, "-C", folder, "."], check=True)
    script = make_script("--time", "00:10:00", "--environment", str(archive))
    facts = slurm.wait(submit(slurm, script))
    assert facts["JobState"] == "COMPLETED", log(script)
    assert largest_difference(tmp_path / "run", alone) < SMALLEST


@pytest.mark.parametrize("site", ["slurm", "frontier", "perlmutter"])
def test_slurm_takes_the_scripts_for_its_sites(slurm, make_script, site):
    script = make_script("--account", "abc123", site=site)
    told = slurm.run("sbatch", "--test-only", "--partition=batch", script)
    assert told.returncode == 0, told.stdout
    assert "to start at" in told.stdout
    shellcheck = shutil.which("shellcheck")
    assert shellcheck is not None
    # SC2317: what a trap calls seems unreachable
    checked = slurm.run(shellcheck, "--exclude=SC2317", script)
    assert (checked.returncode, checked.stdout) == (0, "")


@pytest.mark.parametrize("site", ["frontier", "perlmutter"])
def test_the_scripts_of_sites_run_but_for_their_modules_and_gpus(
    slurm, make_script, alone, tmp_path, site
):
    options = ("--account", "abc123", "--setup", "true", "--cpus-per-rank", "1")
    script = make_script(*options, site=site, settings=("device=cpu",))
    # Frontier gives whole nodes, GPUs included, to whoever asks for nodes.
    facts = slurm.wait(submit(slurm, script, "--partition=batch", "--gres=gpu:8"))
    assert facts["JobState"] == "COMPLETED", log(script)
    assert largest_difference(tmp_path / "run", alone) < SMALLEST


def test_a_batch_script_without_srun_is_told_that_it_is_alone(slurm, run_file, tmp_path):
    script = tmp_path / "job.sh"
    python = " ".join([sys.executable, *GFM_PRETRAIN])
    script.write_text(f"#!/bin/bash\n{python} {run_file} run={tmp_path}/run training.steps=1\n")
    slurm.wait(submit(slurm, script, "-n4"))
    note = "gfm-pretrain: note: alone in a Slurm job of 4 tasks (SLURM_NTASKS=4); start with srun"
    assert log(script).count(note) == 1


def wait_for_step(script: Path, timeout: float = WAIT_SECONDS) -> None:
    end = time.monotonic() + timeout
    while not re.search(r"step \d+/\d+", log(script)):
        assert time.monotonic() < end, log(script)
        time.sleep(0.2)


def check_continued(facts: dict[str, str], script: Path, alone_long: Path) -> None:
    assert (facts["JobState"], facts["ExitCode"]) == ("COMPLETED", "0:0"), log(script)
    assert int(facts["Restarts"]) >= 1
    assert re.search(r"continuing from step [1-9]", log(script))
    assert largest_difference(script.parent / "run", alone_long) < AFTER_MANY_STEPS


def test_a_warned_job_saves_goes_back_into_the_queue_and_continues(slurm, make_script, alone_long):
    script = make_script("--time", "00:30:00", settings=LONG)
    job = submit(slurm, script)
    slurm.wait(job, "RUNNING")
    wait_for_step(script)
    slurm.run("scancel", "--signal=USR1", "--batch", job)
    slurm.restart_now(job)
    check_continued(slurm.wait(job), script, alone_long)


def test_slurm_itself_warns_before_the_end_of_the_time(slurm, make_script):
    """Its time is up in the second minute; it warns up to a minute earlier than asked."""
    settings = ("training.steps=5000", *LONG[1:])
    script = make_script("--time", "00:02:00", "--warn", "60", settings=settings)
    job = submit(slurm, script)
    slurm.wait(job, "RUNNING")
    facts = slurm.wait(job, "PENDING", "REQUEUED")
    assert facts["JobState"] in ("PENDING", "REQUEUED"), log(script)
    assert list((script.parent / "run" / "snapshots").glob("step-*")), log(script)
    slurm.run("scancel", job)


def test_a_preempted_job_saves_and_continues(slurm, make_script, alone_long):
    """Slurm asks with SIGTERM, and puts the job back itself."""
    script = make_script("--time", "00:30:00", settings=LONG)
    job = submit(slurm, script, "--exclusive")
    slurm.wait(job, "RUNNING")
    wait_for_step(script)
    told = slurm.run("srun", "--partition=urgent", "-N3", "--exclusive", "true", timeout=240)
    assert told.returncode == 0, told.stdout
    slurm.restart_now(job)
    check_continued(slurm.wait(job), script, alone_long)


def test_a_cancelled_job_saves_and_stays_away(slurm, make_script, tmp_path):
    script = make_script("--time", "00:30:00", settings=("training.steps=5000", *LONG[1:]))
    job = submit(slurm, script)
    slurm.wait(job, "RUNNING")
    wait_for_step(script)
    slurm.run("scancel", job)
    facts = slurm.wait(job)
    assert (facts["JobState"], facts["Restarts"]) == ("CANCELLED", "0")
    assert list((tmp_path / "run" / "snapshots").glob("step-*"))
    assert not (tmp_path / "run" / "checkpoint").exists()
