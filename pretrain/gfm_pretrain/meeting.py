"""How the ranks of a run find each other, and how they part.

MPI only launches and lets the ranks meet; torchrun brings a meeting place of its own; Slurm says
where everybody is. From then on all goes through the store at which they met.
"""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore  # pyright: ignore[reportPrivateImportUsage] (public in the docs)
from torch.distributed.rendezvous import rendezvous

from gfm_pretrain.announcement import Announcement, Launcher
from gfm_pretrain.launcher import LaunchError, announced_place
from gfm_pretrain.mpi import meet_by_mpi, mpi_under_srun
from gfm_pretrain.slurm import first_node, meeting_port

_POLL_SECONDS = 0.05
_MOST_NAMED = 8


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


def meet(timeout: timedelta) -> Meeting:
    """Find the other ranks. Call on every rank.

    Raises:
        LaunchError: Launchers contradict each other or the installed MPI, or mpi4py is missing.
        ConnectionError: Another rank is not where it should be, or did not come in time.
    """
    environ = os.environ
    place = announced_place(environ)
    if place.launcher == "mpi" and place.size != 1:
        return _meet_by_mpi(environ, place, timeout)
    if place.launcher == "srun" and place.size != 1:
        if mpi_under_srun(environ):
            return _meet_by_mpi(environ, place, timeout)
        return _meet_by_slurm(environ, place, timeout)
    if place.launcher == "torchrun":
        return _meet_by_environment(place, timeout)
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


def _meet_by_mpi(environ: Mapping[str, str], place: Announcement, timeout: timedelta) -> Meeting:
    ranks = meet_by_mpi(environ, place, timeout)
    return Meeting(
        launcher="mpi",
        rank=ranks.rank,
        size=ranks.size,
        local_rank=ranks.local_rank,
        local_size=ranks.local_size,
        store=ranks.store,
        timeout=timeout,
    )


def _meet_by_environment(place: Announcement, timeout: timedelta) -> Meeting:
    """By RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, which torchrun sets, or somebody else."""
    assert place.rank is not None
    assert place.size is not None
    where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    store = None
    if place.size > 1:
        with _connecting(place, where):
            store = _store_by_environment(place, timeout)
            _wait_for_all(store, place, timeout)
    local_rank, local_size = place.local_rank, place.local_size
    if local_rank is None or local_size is None:
        local_rank, local_size = _place_on_node(store, place.rank, place.size)
    return Meeting(
        launcher="torchrun",
        rank=place.rank,
        size=place.size,
        local_rank=local_rank,
        local_size=local_size,
        store=store,
        timeout=timeout,
    )


def _store_by_environment(place: Announcement, timeout: timedelta) -> Store:
    """That of torchrun's agent; where there is none, rank 0 serves it and counts by itself."""
    assert place.size is not None
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return next(rendezvous("env://", timeout=timeout))[0]
    return TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        place.size,
        is_master=place.rank == 0,
        wait_for_workers=False,
        timeout=timeout,
    )


def _place_on_node(store: Store | None, rank: int, size: int) -> tuple[int, int]:
    """Rank among those with this host's name, and their number."""
    if store is None:
        return 0, 1
    host = socket.gethostname()
    store.set(f"host/{rank}", host)
    found = store.multi_get([f"host/{other}" for other in range(size)])  # pyright: ignore[reportAttributeAccessIssue] (not in the stub)
    hosts = [name.decode() for name in found]
    return hosts[:rank].count(host), hosts.count(host)


def _meet_by_slurm(environ: Mapping[str, str], place: Announcement, timeout: timedelta) -> Meeting:
    """Without MPI: the task of rank 0 listens, on a port that follows from the job and step."""
    assert place.rank is not None
    assert place.size is not None
    host, port = _address_by_slurm(environ, place.rank)
    with _connecting(place, f"{host}:{port}"):
        served = TCPStore(
            host,
            port,
            place.size,
            is_master=place.rank == 0,
            wait_for_workers=False,
            timeout=timeout,
        )
        # Names of their own, in case that the port is that of another run.
        store = PrefixStore(f"slurm/{environ['SLURM_JOB_ID']}.{environ['SLURM_STEP_ID']}", served)
        _wait_for_all(store, place, timeout)
    return Meeting(
        launcher="srun",
        rank=place.rank,
        size=place.size,
        local_rank=place.local_rank or 0,
        local_size=place.local_size or 1,
        store=store,
        timeout=timeout,
    )


def _address_by_slurm(environ: Mapping[str, str], rank: int) -> tuple[str, int]:
    """Sites set MASTER_ADDR to choose the network; on one node no name needs to resolve."""
    host = environ.get("MASTER_ADDR")
    if not host and environ.get("SLURM_STEP_NUM_NODES") == "1":
        host = "127.0.0.1"
    if not host:
        host = first_node(environ["SLURM_STEP_NODELIST"])
        if rank == 0 and environ.get("SLURM_NODEID") != "0":
            raise LaunchError(
                "srun put task 0 not on the first node of the step, where the others look for it; "
                "set MASTER_ADDR to its node"
            )
    return host, int(environ.get("MASTER_PORT") or meeting_port(environ))


@contextmanager
def _connecting(place: Announcement, where: str) -> Iterator[None]:
    """Say who could not connect to whom, and what to do."""
    host = where.rpartition(":")[0]
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        raise ConnectionError(
            f"'{host}', where the ranks are to meet, does not resolve on {socket.gethostname()} "
            f"({error.strerror}); set MASTER_ADDR to a name or address of the node of rank 0"
        ) from None
    try:
        yield
    except RuntimeError as error:  # of torch, for everything between sockets and time-outs
        raise ConnectionError(_why(place, where, str(error))) from error


def _why(place: Announcement, where: str, error: str) -> str:
    if "EADDRINUSE" in error:
        return (
            f"rank 0 cannot listen at {where}: the port is taken, by another program or another "
            "process that believes to be rank 0; set MASTER_PORT to a free one"
        )
    return (
        f"rank {place.rank} of {place.size} ({place.by}: {place}) did not meet the others at "
        f"{where}: {error.splitlines()[0]}; were all of them started, and is that port open? "
        "MASTER_ADDR and MASTER_PORT choose another one"
    )


def _wait_for_all(store: Store, place: Announcement, timeout: timedelta) -> None:
    """Rank 0 counts; the others wait for it."""
    assert place.size is not None
    store.set(f"arrived/{place.rank}", "")
    store.add("arrived", 1)
    if place.rank == 0:
        seconds = timeout.total_seconds()
        if not reaches(store, "arrived", place.size, seconds):
            missing = [r for r in range(place.size) if not store.check([f"arrived/{r}"])]
            named = ", ".join(map(str, missing[:_MOST_NAMED]))
            more = f" and {len(missing) - _MOST_NAMED} more" * (len(missing) > _MOST_NAMED)
            raise RuntimeError(f"rank {named}{more} have not come after {seconds:g} s")
        store.set("all here", "")
    store.wait(["all here"], timeout)
