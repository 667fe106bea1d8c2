"""Every launcher that can be installed by pip, with the real command: `make launchers`.

Not part of `make test`: it makes environments with MPICH and Intel MPI in build/launchers.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from gfm_pretrain.job_script.job import Job
from gfm_pretrain.job_script.script import job_script
from launch import BIN, OPEN_MPI
from mpi_environments import mpi_environment
from same_result import ENVIRONMENT, GFM_PRETRAIN, SMALLEST, largest_difference, run_alone
from tiny_run import write_run

LIMIT_SECONDS = 300.0
MPIS = ("openmpi", "mpich", "impi")
OF = {"openmpi": "Open MPI", "mpich": "MPICH or Intel MPI", "impi": "MPICH or Intel MPI"}
LIBRARY = {"openmpi": "Open MPI v", "mpich": "MPICH Version: ", "impi": r"Intel(R) MPI Library"}
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")


@pytest.fixture(scope="session")
def run_file(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def alone(run_file) -> Path:
    """The same run of one process."""
    folder = run_file.parent / "alone"
    run_alone(run_file, f"run={folder}")
    return folder


def say(*command: object, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit status, and what was said on both outputs."""
    told = subprocess.run(
        list(map(str, command)),
        env={**os.environ, **OPEN_MPI, **ENVIRONMENT, **(environ or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    return told.returncode, told.stdout


def mpiexec(mpi: str, n_ranks: int, *, python_of: str | None = None) -> list[object]:
    """Of one MPI, with the Python of the same or of another environment."""
    folders = mpi_environment(mpi), mpi_environment(python_of or mpi)
    return [folders[0] / "bin" / "mpiexec", "-n", n_ranks, folders[1] / "bin" / "python"]


@pytest.mark.parametrize("n_ranks", [2, 3])
@pytest.mark.parametrize("mpi", MPIS)
def test_mpiexec_gives_the_result_of_one_process(run_file, alone, tmp_path, mpi, n_ranks):
    command = [*mpiexec(mpi, n_ranks), *GFM_PRETRAIN, run_file, f"run={tmp_path}/run"]
    status, said = say(*command)
    assert status == 0, said
    assert f" of {n_ranks}\n" in said
    assert largest_difference(tmp_path / "run", alone) < SMALLEST


def test_torchrun_gives_the_result_of_one_process(run_file, alone, tmp_path):
    command = ["--standalone", "--nproc-per-node=2", *GFM_PRETRAIN, run_file, f"run={tmp_path}/run"]
    status, said = say(*TORCHRUN, *command)
    assert status == 0, said
    assert largest_difference(tmp_path / "run", alone) < SMALLEST


@pytest.mark.parametrize(
    ("mpi", "other"), [("mpich", "openmpi"), ("impi", "openmpi"), ("openmpi", "mpich")]
)
def test_mpiexec_and_mpi4py_of_different_mpis_are_named_once(run_file, tmp_path, mpi, other):
    command = mpiexec(mpi, 3, python_of=other)
    status, said = say(*command, *GFM_PRETRAIN, run_file, f"run={tmp_path}/run")
    assert status == 2, said
    assert said.count("gfm-pretrain: error") == 1
    assert f"LaunchError: mpiexec of {OF[mpi]} started several ranks" in said
    assert f"but each sees only itself: mpi4py uses {LIBRARY[other]}" in said
    assert "start with the mpiexec of that library, or install mpi4py for the MPI of this" in said
    assert "RuntimeWarning" not in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("mpi", "other"), [("mpich", "impi"), ("impi", "mpich")])
def test_mpich_and_intel_mpi_understand_each_other(run_file, alone, tmp_path, mpi, other):
    command = mpiexec(mpi, 2, python_of=other)
    status, said = say(*command, *GFM_PRETRAIN, run_file, f"run={tmp_path}/run")
    assert status == 0, said
    assert largest_difference(tmp_path / "run", alone) < SMALLEST


@pytest.mark.parametrize("mpi", MPIS)
def test_a_mistake_on_the_command_line_is_said_once(mpi):
    status, said = say(*mpiexec(mpi, 3), *GFM_PRETRAIN, "--nonsense", "run.yaml")
    assert status == 2
    assert said.count("unrecognized arguments: --nonsense") == 1
    assert said.count("usage: ") == 1


@pytest.mark.parametrize("mpi", MPIS)
def test_torchruns_on_one_node_are_told_once(run_file, mpi):
    launcher = [mpi_environment(mpi) / "bin" / "mpiexec", "-n", 2, *TORCHRUN, "--standalone"]
    status, said = say(*launcher, "--nproc-per-node=2", *GFM_PRETRAIN, run_file)
    assert status != 0
    error = f"gfm-pretrain: error: LaunchError: mpiexec of {OF[mpi]} started 2 torchruns on one"
    assert said.count(error) == 1
    assert said.count("gfm-pretrain: error") == 1


def test_variables_that_outlived_their_launcher_are_named(run_file):
    left = {"WORLD_SIZE": "4", "RANK": "2"}
    status, said = say(sys.executable, *GFM_PRETRAIN, run_file, environ=left)
    assert status == 1
    assert said.startswith(
        "gfm-pretrain: error on rank 2: ValueError: the environment has RANK, WORLD_SIZE but not "
        "MASTER_ADDR, MASTER_PORT; start with"
    )
    assert said.count("\n") == 1


@pytest.mark.parametrize("mpi", MPIS)
def test_the_script_for_pbs_runs_with_the_mpiexec_that_is_there(run_file, alone, tmp_path, mpi):
    """What PBS would set is set here; there is no PBS to be installed."""
    folder = mpi_environment(mpi)
    run = str(tmp_path / "run")
    arguments = (str(run_file), f"run={run}")
    job = Job(site="pbs", ranks=2, arguments=arguments, run=run, environment=str(folder))
    script, nodes = tmp_path / "job.sh", tmp_path / "nodes"
    script.write_text(job_script(job))
    nodes.write_text("localhost\nlocalhost\n")  # a line for each rank
    path = os.pathsep.join([str(folder / "bin"), str(BIN), os.environ["PATH"]])
    environ = {"PBS_O_WORKDIR": str(tmp_path), "PBS_NODEFILE": str(nodes), "PATH": path}
    status, said = say("bash", script, environ=environ)
    assert status == 0, said
    assert " of 2\n" in said
    assert largest_difference(tmp_path / "run", alone) < SMALLEST
