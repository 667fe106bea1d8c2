import pytest
from environments import (
    BATCH,
    BEHIND_DAEMONS,
    BY_HAND,
    HYDRA,
    MVAPICH,
    OPEN_MPI,
    PALS_CRAY,
    PALS_PMIX,
    SHELL,
    SRUN,
    SRUN_CRAY,
    SRUN_PMI2,
    SRUN_PMIX,
    TORCHRUN,
)
from gfm_pretrain.announcement import announcements, has_pmi

THIRD_NODE = {**SRUN, "SLURM_NODEID": "2", "SLURM_STEP_TASKS_PER_NODE": "4(x2),3"}


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (TORCHRUN, [("torchrun", 1, 2, 1, 2)]),
        (BY_HAND, [("RANK and WORLD_SIZE", 1, 2, None, None)]),
        (OPEN_MPI, [("mpiexec of Open MPI", 1, 3, 1, 3)]),
        (HYDRA, [("mpiexec of MPICH or Intel MPI", 1, 3, 1, 3)]),
        (MVAPICH, [("mpiexec of MVAPICH", 1, 3, 1, 3)]),
        (PALS_PMIX, [("mpiexec of PALS", 13, None, 1, 12)]),
        (PALS_CRAY, [("mpiexec of PALS", 13, 24, 1, 12)]),
        ({"PMIX_RANK": "2"}, [("a launcher with PMIx", 2, None, None, None)]),
        (SRUN, [("srun", 1, 3, 1, 2)]),
        (THIRD_NODE, [("srun", 1, 3, 1, 3)]),
        (SRUN_PMI2, [("srun", 1, 3, 1, 2)]),
        (SRUN_PMIX, [("srun", 1, 3, 1, 2)]),
        (SRUN_CRAY, [("srun", 1, 3, 1, 2)]),
        (SHELL, [("srun", 0, 1, 1, 2)]),
        ({**SRUN_PMI2, **OPEN_MPI, "PMI_RANK": "1"}, [("srun", 1, 3, 1, 2)]),
        (BATCH, []),
        ({}, []),
        ({"PMI_RANK": "first", "PMI_SIZE": "many"}, []),
        ({"MASTER_ADDR": "node1", "MASTER_PORT": "29500"}, []),
        ({"RANK": "0", "WORLD_SIZE": "1"}, []),
    ],
)
def test_what_a_launcher_says_is_read_from_its_own_variables(environ, said):
    found = [(a.by, a.rank, a.size, a.local_rank, a.local_size) for a in announcements(environ)]
    assert found == said


def test_of_launchers_one_inside_the_other_the_innermost_comes_first():
    daemons = {**SRUN_PMI2, "SLURM_PROCID": "0", "PMI_RANK": "0", "SLURM_STEP_NUM_TASKS": "2"}
    found = announcements({**daemons, "PMI_SIZE": "2", **BEHIND_DAEMONS, **TORCHRUN})
    assert [said.by for said in found] == ["torchrun", "mpiexec of Open MPI", "srun"]


@pytest.mark.parametrize(
    ("environ", "offered"), [(SRUN, False), (SRUN_PMI2, True), (SRUN_PMIX, True), (SRUN_CRAY, True)]
)
def test_whether_srun_offers_pmi_is_known(environ, offered):
    assert has_pmi(environ) is offered


def test_an_announcement_shows_its_variables():
    (said,) = announcements(SRUN)
    assert str(said) == "SLURM_PROCID=1, SLURM_STEP_NUM_TASKS=3"
