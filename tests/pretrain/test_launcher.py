import pytest
from gfm_pretrain.launcher import LaunchError, announced_rank, detect_launcher
from gfm_pretrain.process import open_world

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
    ("environ", "rank"),
    [
        ({}, 0),
        ({"RANK": "3"}, 0),
        ({**TORCHRUN, "RANK": "1"}, 1),
        ({**OPEN_MPI, "OMPI_COMM_WORLD_RANK": "2", "RANK": "1"}, 2),
        ({"PMI_SIZE": "4", "PMI_RANK": "3"}, 3),
        ({**SRUN, "SLURM_PROCID": "5"}, 5),
    ],
)
def test_the_rank_is_known_from_the_environment(environ, rank):
    assert announced_rank(environ) == rank


def test_an_incomplete_environment_is_an_error(no_launcher, monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    with pytest.raises(LaunchError, match="but not LOCAL_RANK, LOCAL_WORLD_SIZE; start with"):
        open_world().__enter__()
