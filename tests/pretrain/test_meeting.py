"""Ranks that meet without a launcher's help: threads of one process, each with its variables."""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from environments import BY_HAND, SRUN
from gfm_pretrain import meeting as meeting_module
from gfm_pretrain.launcher import LaunchError, announced_place
from gfm_pretrain.meeting import Meeting, leave, meet, reaches
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage] (public in the docs)

SECONDS = timedelta(seconds=60)
N_RANKS = 3
ONE_NODE = {
    **SRUN,
    "SLURM_STEP_NODELIST": "n1",
    "SLURM_STEP_NUM_NODES": "1",
    "SLURM_STEP_TASKS_PER_NODE": "3",
}
HERE = {**SRUN, "MASTER_ADDR": "127.0.0.1"}


@pytest.fixture
def port() -> str:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])


@pytest.fixture
def met_by_slurm() -> Iterator[Callable[..., list[Meeting]]]:
    """What every rank of a step finds; each runs in a thread of its own."""
    with ThreadPoolExecutor(N_RANKS) as pool:

        def everyone(environ: Mapping[str, str], **changed: str) -> list[Meeting]:
            ranks: list[Future[Meeting]] = [
                pool.submit(meet_by_slurm, {**environ, "SLURM_PROCID": str(rank), **changed})
                for rank in range(N_RANKS)
            ]
            return [rank.result() for rank in ranks]

        yield everyone


def meet_by_slurm(environ: Mapping[str, str], timeout: timedelta = SECONDS) -> Meeting:
    return meeting_module._meet_by_slurm(environ, announced_place(environ), timeout)


@pytest.mark.parametrize("environ", [ONE_NODE, HERE])
def test_tasks_of_srun_meet_without_mpi(met_by_slurm, port, environ):
    met = met_by_slurm(environ, MASTER_PORT=port)
    assert [(m.launcher, m.rank, m.size) for m in met] == [("srun", r, N_RANKS) for r in range(3)]
    assert [(m.local_rank, m.local_size) for m in met] == [(1, 3 if environ is ONE_NODE else 2)] * 3
    stores = [m.store for m in met]
    stores[2].set("from", "rank 2")
    assert [store.get("from") for store in stores] == [b"rank 2"] * 3


def test_the_port_follows_from_the_step(met_by_slurm):
    met = met_by_slurm(ONE_NODE, SLURM_JOB_ID="77", SLURM_STEP_ID=str(os.getpid() % 10_000))
    assert [m.rank for m in met] == [0, 1, 2]


def test_another_run_at_the_port_is_not_mistaken_for_this_one(met_by_slurm, port):
    """Its server is there first; ours cannot listen, and its names are not touched."""
    (first, *_) = met_by_slurm(ONE_NODE, MASTER_PORT=port)
    ours = {**ONE_NODE, "SLURM_JOB_ID": "3", "MASTER_PORT": port}
    with pytest.raises(ConnectionError, match=f"cannot listen at 127.0.0.1:{port}: the port is"):
        meet_by_slurm({**ours, "SLURM_PROCID": "0"})
    with pytest.raises(ConnectionError, match="did not meet the others"):
        meet_by_slurm({**ours, "SLURM_PROCID": "1"}, timedelta(seconds=1))
    assert first.store.add("arrived", 0) == N_RANKS


def test_who_does_not_come_is_missed(port):
    alone = {**ONE_NODE, "SLURM_PROCID": "0", "MASTER_PORT": port}
    with pytest.raises(
        ConnectionError,
        match=rf"^rank 0 of 3 \(srun: SLURM_PROCID=0, SLURM_STEP_NUM_TASKS=3\) did not meet the "
        rf"others at 127.0.0.1:{port}: rank 1, 2 have not come after 1 s; were all of them started",
    ):
        meet_by_slurm(alone, timedelta(seconds=1))


def test_by_hand_too_it_is_said_who_does_not_come(no_launcher, monkeypatch, port):
    values = {"RANK": "0", "WORLD_SIZE": "20", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ConnectionError, match=r"rank 1, 2, 3, 4, 5, 6, 7, 8 and 11 more have not come after 1 s"
    ):
        meet(timedelta(seconds=1))


def test_a_name_that_does_not_resolve_is_said_at_once():
    with pytest.raises(
        ConnectionError, match=r"'no\.such\.host', where the ranks are to meet, does not resolve on"
    ):
        meet_by_slurm({**SRUN, "MASTER_ADDR": "no.such.host"})


def test_the_first_node_is_asked_for_rank_0_only_if_it_is_there():
    with pytest.raises(LaunchError, match="task 0 not on the first node of the step"):
        meet_by_slurm({**SRUN, "SLURM_PROCID": "0", "SLURM_NODEID": "1"})


def test_by_hand_ranks_find_their_place_on_the_node(no_launcher, monkeypatch, port):
    for name, value in {**BY_HAND, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, value)
    place = announced_place(os.environ)
    with ThreadPoolExecutor(1) as pool:
        server: Any = pool.submit(TCPStore, "127.0.0.1", int(port), 2, True, SECONDS, False)
        meeting = None
        pool.submit(lambda: server.result().set("host/0", socket.gethostname()))
        pool.submit(lambda: server.result().set("all here", ""))
        meeting = meeting_module._meet_by_environment(place, SECONDS)
        assert server.result().port == int(port)
    assert (meeting.rank, meeting.size) == (1, 2)
    assert (meeting.local_rank, meeting.local_size) == (1, 2)


@pytest.mark.parametrize(
    "environ", [{}, {"RANK": "0"}, {**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}]
)
def test_one_process_meets_nobody(no_launcher, monkeypatch, environ):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert meet(SECONDS) == Meeting(launcher="single", timeout=SECONDS)


def test_by_hand_one_rank_of_one_needs_no_store(no_launcher, monkeypatch):
    for name, value in {**BY_HAND, "RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    assert meet(SECONDS) == Meeting(launcher="torchrun", timeout=SECONDS)


def test_rank_0_leaves_last():
    store = TCPStore("127.0.0.1", 0, 2, True, SECONDS, False)
    with pytest.raises(RuntimeError, match=r"timed out after 0\.2 s waiting for the others"):
        leave(store, 0, 2, 0.2)
    leave(store, 1, 2)
    leave(store, 0, 2, 60.0)
    assert reaches(store, "left", 1, 60.0)
