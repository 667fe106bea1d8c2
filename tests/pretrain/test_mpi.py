import sys
from types import SimpleNamespace

import pytest
from environments import HYDRA, OPEN_MPI, PALS_PMIX, SRUN, SRUN_CRAY, SRUN_PMI2, SRUN_PMIX
from gfm_pretrain.announcement import announcements
from gfm_pretrain.launcher import LaunchError
from gfm_pretrain.mpi import _check_size, mpi_under_srun, running_mpi, speaks_pmi_of_srun

LIBRARIES = {
    "Open MPI": "Open MPI v5.0.11, package: Open MPI user@localhost Distribution",
    "MPICH": "MPICH Version:      5.0.2\nMPICH Release date: …",
    "Intel": "Intel(R) MPI Library 2021.18.1 for Linux* OS\n",
    "Cray": "MPI VERSION    : CRAY MPICH version 8.1.32.10 (ANL base 3.4a2)\n",
}


@pytest.mark.parametrize(
    ("library", "speaks"),
    [
        ("Open MPI", (False, True)),
        ("MPICH", (True, False)),
        ("Intel", (True, True)),
        ("Cray", (True, True)),
    ],
)
def test_a_library_is_started_only_where_srun_speaks_its_language(library, speaks):
    version = LIBRARIES[library]
    assert tuple(speaks_pmi_of_srun(version, environ) for environ in (SRUN_PMI2, SRUN_PMIX)) == (
        speaks
    )
    assert speaks_pmi_of_srun(LIBRARIES["Cray"], SRUN_CRAY)


def test_without_pmi_or_without_mpi4py_srun_needs_no_mpi(monkeypatch):
    assert not mpi_under_srun(SRUN)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert not mpi_under_srun(SRUN_PMIX)


@pytest.mark.parametrize(
    ("environ", "size", "said"),
    [
        (
            HYDRA,
            1,
            (
                r"mpiexec of MPICH or Intel MPI started several ranks \(PMI_RANK=1, PMI_SIZE=3\) "
                r"but each sees only itself: mpi4py uses Open MPI v5.0.11; start with the mpiexec"
            ),
        ),
        (OPEN_MPI, 2, r"mpiexec of Open MPI started .* but each sees 2 ranks"),
        (PALS_PMIX, 1, r"mpiexec of PALS started several ranks \(PALS_RANKID=13\) but each sees"),
        (SRUN_PMIX, 1, r"srun started .* start with srun --mpi=none, which needs no MPI, or see"),
    ],
)
def test_what_mpi_sees_is_held_against_what_was_announced(environ, size, said):
    (announced,) = announcements(environ)
    with pytest.raises((LaunchError, ConnectionError), match=said):
        _check_size(size, announced, LIBRARIES["Open MPI"])


@pytest.mark.parametrize(("environ", "size"), [(HYDRA, 3), (OPEN_MPI, 3), (PALS_PMIX, 24)])
def test_what_fits_is_not_questioned(environ, size):
    (announced,) = announcements(environ)
    _check_size(size, announced, LIBRARIES["Open MPI"])


def test_where_the_size_was_not_announced_each_rank_speaks_for_itself():
    """Rank 0 cannot know that it is not the only one."""
    (announced,) = announcements(PALS_PMIX)
    with pytest.raises(ConnectionError):
        _check_size(1, announced, LIBRARIES["MPICH"])
    (announced,) = announcements(HYDRA)
    with pytest.raises(LaunchError):
        _check_size(1, announced, LIBRARIES["MPICH"])


@pytest.mark.parametrize(
    ("initialized", "finalized", "runs"),
    [(False, False, False), (True, False, True), (True, True, False)],
)
def test_mpi_runs_between_its_beginning_and_its_end(initialized, finalized, runs):
    MPI = SimpleNamespace(Is_initialized=lambda: initialized, Is_finalized=lambda: finalized)
    assert (running_mpi({"mpi4py.MPI": MPI}) is MPI) is runs  # pyright: ignore[reportArgumentType]
    assert running_mpi({}) is None
