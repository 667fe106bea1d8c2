import re

import pytest
from environments import (
    BATCH,
    BEHIND_DAEMONS,
    BY_HAND,
    HYDRA,
    OPEN_MPI,
    PALS_CRAY,
    PALS_PMIX,
    SHELL,
    SRUN,
    SRUN_PMI2,
    SRUN_PMIX,
    TORCHRUN,
)
from gfm_pretrain.launcher import (
    LaunchError,
    announced_place,
    announced_rank,
    detect_launcher,
    idle_allocation,
)

ONE_TORCHRUN_A_NODE = {
    **TORCHRUN,
    "WORLD_SIZE": "6",
    "GROUP_WORLD_SIZE": "3",
    **OPEN_MPI,
    "OMPI_COMM_WORLD_LOCAL_SIZE": "1",
}
ALONE_IN_SRUN = {
    "OMPI_COMM_WORLD_RANK": "0",
    "OMPI_COMM_WORLD_SIZE": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "1",
    **SRUN,
}


@pytest.mark.parametrize(
    ("environ", "launcher"),
    [
        ({}, "single"),
        (TORCHRUN, "torchrun"),
        ({**TORCHRUN, "WORLD_SIZE": "1"}, "torchrun"),
        (ONE_TORCHRUN_A_NODE, "torchrun"),
        (BY_HAND, "torchrun"),
        ({"RANK": "0"}, "single"),
        ({"RANK": "1"}, "torchrun"),
        ({"WORLD_SIZE": "2"}, "torchrun"),
        (OPEN_MPI, "mpi"),
        ({**OPEN_MPI, **BY_HAND}, "mpi"),
        ({**OPEN_MPI, "OMPI_COMM_WORLD_SIZE": "1"}, "single"),
        ({**OPEN_MPI, "OMPI_COMM_WORLD_SIZE": "1", **BY_HAND}, "torchrun"),
        (HYDRA, "mpi"),
        ({**HYDRA, "PMI_SIZE": "1"}, "single"),
        (PALS_PMIX, "mpi"),
        (PALS_CRAY, "mpi"),
        ({"PMIX_RANK": "0"}, "mpi"),
        (SRUN, "srun"),
        (SRUN_PMI2, "srun"),
        ({**SRUN, **BEHIND_DAEMONS, "SLURM_STEP_NUM_TASKS": "2"}, "mpi"),
        (BATCH, "single"),
        (SHELL, "single"),
        ({**SHELL, **HYDRA, "PMIX_RANK": "0"}, "mpi"),
    ],
)
def test_launcher_is_known_from_the_environment(environ, launcher):
    assert detect_launcher(environ) == launcher


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({}, (0, 1)),
        ({"RANK": "0"}, (0, 1)),
        (TORCHRUN, (1, 2)),
        (ONE_TORCHRUN_A_NODE, (1, 6)),
        (BY_HAND, (1, 2)),
        ({**OPEN_MPI, "RANK": "0", "WORLD_SIZE": "1"}, (1, 3)),
        ({**OPEN_MPI, "RANK": "0", "WORLD_SIZE": "3"}, (1, 3)),
        ({**SRUN, **BEHIND_DAEMONS, "SLURM_STEP_NUM_TASKS": "2"}, (1, 3)),
        ({**SHELL, **OPEN_MPI}, (1, 3)),
        (PALS_PMIX, (13, None)),
        (PALS_CRAY, (13, 24)),
        (SRUN_PMIX, (1, 3)),
    ],
)
def test_the_place_is_known_from_the_environment(environ, place):
    said = announced_place(environ)
    assert (said.rank, said.size) == place
    assert announced_rank(environ) == place[0]


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (
            {**OPEN_MPI, "WORLD_SIZE": "4"},
            (
                "mpiexec of Open MPI says OMPI_COMM_WORLD_RANK=1, OMPI_COMM_WORLD_SIZE=3, but "
                "WORLD_SIZE=4; unset RANK and WORLD_SIZE"
            ),
        ),
        ({**SRUN, **BY_HAND}, "srun says SLURM_PROCID=1, SLURM_STEP_NUM_TASKS=3, but WORLD_SIZE=2"),
        (
            {**OPEN_MPI, **HYDRA, "PMI_SIZE": "8"},
            (
                "contradict each other: mpiexec of Open MPI says OMPI_COMM_WORLD_RANK=1, "
                "OMPI_COMM_WORLD_SIZE=3, mpiexec of MPICH or Intel MPI says PMI_RANK=1, "
                "PMI_SIZE=8; unset those"
            ),
        ),
        (
            {**OPEN_MPI, **TORCHRUN},
            (
                "mpiexec of Open MPI started 3 torchruns on one node, whose ranks would share "
                "devices; start one torchrun on each node"
            ),
        ),
        (
            {**ONE_TORCHRUN_A_NODE, "GROUP_WORLD_SIZE": "1", "WORLD_SIZE": "2"},
            (
                "mpiexec of Open MPI started 3 torchruns (OMPI_COMM_WORLD_RANK=1, "
                "OMPI_COMM_WORLD_SIZE=3) but 1 of them met (RANK=1, WORLD_SIZE=2); give torchrun "
                "--nnodes=3 --rdzv-backend=c10d --rdzv-endpoint=HOST:PORT, or leave torchrun out"
            ),
        ),
        (
            {**SRUN, **HYDRA, "PMI_SIZE": "2", "MPI_LOCALNRANKS": "2"},
            (
                "srun started 3 tasks (SLURM_PROCID=1, SLURM_STEP_NUM_TASKS=3) and each of them "
                "ran mpiexec of MPICH or Intel MPI (PMI_RANK=1, PMI_SIZE=2): these are separate"
            ),
        ),
        (ALONE_IN_SRUN, "these are separate runs; start with one of the two"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line_with_the_way_out(environ, said):
    with pytest.raises(LaunchError, match=re.escape(said)) as raised:
        announced_place(environ)
    assert "\n" not in str(raised.value)
    assert detect_launcher(environ) != "single"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"MASTER_PORT": None}, "RANK, WORLD_SIZE, MASTER_ADDR but not MASTER_PORT; start with"),
        ({"RANK": None, "MASTER_ADDR": None}, "WORLD_SIZE, MASTER_PORT but not RANK, MASTER_ADDR;"),
        ({**TORCHRUN, "LOCAL_RANK": None}, "TORCHELASTIC_RUN_ID but not LOCAL_RANK; start with"),
        ({"MASTER_PORT": ""}, "MASTER_PORT= is no number"),
        ({"RANK": "first"}, "RANK=first is no number"),
        ({"RANK": "2"}, "RANK=2 but WORLD_SIZE=2: ranks are 0 … 1"),
    ],
)
def test_what_one_process_alone_may_have_wrong_it_says_itself(wrong, said):
    environ = {name: value for name, value in {**BY_HAND, **wrong}.items() if value is not None}
    with pytest.raises(ValueError, match=re.escape(said)) as raised:
        announced_place(environ)
    assert detect_launcher(environ) == "torchrun"
    assert not isinstance(raised.value, LaunchError)


def test_of_separate_runs_one_process_speaks():
    """Each of srun's three tasks started two ranks with mpiexec."""
    ranks = [
        announced_rank(
            {
                **SRUN,
                "SLURM_PROCID": str(task),
                **HYDRA,
                "PMI_RANK": str(rank),
                "PMI_SIZE": "2",
                "MPI_LOCALNRANKS": "2",
            }
        )
        for task in range(3)
        for rank in range(2)
    ]
    assert ranks.count(0) == 1


@pytest.mark.parametrize("environ", [{}, SRUN, SHELL, {**BATCH, "SLURM_NTASKS": "1"}])
def test_where_no_task_idles_nothing_is_said(environ):
    assert idle_allocation(environ) is None


def test_a_batch_script_that_forgot_srun_is_told():
    said = idle_allocation(BATCH)
    assert said == (
        "alone in a Slurm job of 6 tasks (SLURM_NTASKS=6); start with srun to use all of them"
    )
