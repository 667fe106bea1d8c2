"""The ranks of a run: what each of them knows of itself, and what they do together.

A program is started by `mpiexec`, `srun`, `torchrun`, or by nobody (see `launcher.py`), and the
ranks have met (`meeting.py`); the code that trains sees a `World` and does not know how. Every
number goes through torch.distributed. A program's entry point is one line (see `failure.py`):

    return run_main(lambda world: pretrain(config, world), program="gfm-pretrain")
"""

import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage] (public in the docs)

from gfm_pretrain.announcement import Launcher
from gfm_pretrain.device import BACKENDS, local_device
from gfm_pretrain.meeting import Meeting, leave, meet
from gfm_pretrain.preemption import StopRequest
from gfm_pretrain.pulse import Pulse


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among the processes of the run."""

    rank: int
    """0 … size − 1."""
    size: int
    """Number of ranks. With 1 there is no process group, and every collective is the identity."""
    local_rank: int
    """Number of this rank on its node."""
    local_size: int
    """Number of ranks on this node."""
    launcher: Launcher
    """What started the ranks."""
    device: torch.device
    """Where this rank computes."""
    timeout_seconds: float = 600.0
    """How long a collective waits for a rank that does not come."""
    pulse: Pulse = field(default_factory=Pulse, repr=False, compare=False)
    """What this rank is doing, for those who watch it."""
    stop: StopRequest = field(default_factory=StopRequest, repr=False, compare=False)
    """Whether this rank was asked to stop."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Some of the ranks, made by `new_groups`."""

    ranks: tuple[int, ...]
    """The members, ascending."""
    handle: dist.ProcessGroup | None
    """For torch.distributed; None where there is nothing to do: one member, or not a member."""


@contextmanager
def open_world(*, device: str = "auto", timeout_seconds: float = 600.0) -> Iterator[World]:
    """Let the ranks meet, and part at the end. Call on every rank.

    Programs use `run_main`, which also ends all ranks when one fails; after an exception the
    process group is left as it is, because tearing it down could wait for ranks that are gone.

    Args:
        device: "auto" (the accelerator torch sees, or else the CPU), "cpu", "cuda" or "xpu".
        timeout_seconds: How long a collective waits for a rank that does not come.

    Raises:
        LaunchError: Launchers contradict each other or the installed MPI, or mpi4py is missing.
        ConnectionError: Another rank is not where it should be, or did not come in time.
        ValueError: No such device, not the same kind of device on every rank, or one for two ranks.
    """
    meeting = meet(timedelta(seconds=timeout_seconds))
    with join(meeting, device) as world:
        yield world


@contextmanager
def join(meeting: Meeting, device: str) -> Iterator[World]:
    """Go from where the ranks met to what they can do together. Call on every rank."""
    world = World(
        rank=meeting.rank,
        size=meeting.size,
        local_rank=meeting.local_rank,
        local_size=meeting.local_size,
        launcher=meeting.launcher,
        device=local_device(device, meeting.local_rank),
        timeout_seconds=meeting.timeout.total_seconds(),
    )
    if meeting.store is None:
        yield world
        return
    _check_same_device(world, meeting.store)
    _check_own_device(world, meeting.store)
    _make_process_group(world, meeting.store)
    _share_cores(world)
    yield world
    leave(meeting.store, meeting.rank, meeting.size)
    dist.destroy_process_group()


def all_reduce_sum(world: World, tensor: Tensor, group: Group | None = None) -> Tensor:
    """Sum over the ranks of `group`, or over all ranks; in place. Call on every rank of the group.

    Returns:
        `tensor` itself.
    """
    ranks = range(world.size) if group is None else group.ranks
    assert world.rank in ranks, f"rank {world.rank} is not in the group {ranks}"
    if len(ranks) > 1:
        with world.pulse.doing("a sum over ranks", waits=True):
            dist.all_reduce(tensor, op=dist.ReduceOp.SUM, group=group.handle if group else None)
    return tensor


def all_reduce_max(world: World, tensor: Tensor) -> Tensor:
    """Largest of each number over all ranks; in place. Call on every rank.

    Returns:
        `tensor` itself.
    """
    if world.size > 1:
        with world.pulse.doing("a maximum over ranks", waits=True):
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return tensor


def start_sum(world: World, tensor: Tensor, group: Group) -> dist.Work | None:
    """Begin to sum over the ranks of `group`, in place; wait for what it returns before reading.

    Call on every rank of the group. Ranks of several groups must begin in one order.

    Returns:
        None where the group has one member and nothing is to be done.
    """
    assert world.rank in group.ranks, f"rank {world.rank} is not in the group {group.ranks}"
    if len(group.ranks) == 1:
        return None
    return dist.all_reduce(tensor, op=dist.ReduceOp.SUM, group=group.handle, async_op=True)


def broadcast_object(world: World, obj: Any, source: int = 0) -> Any:
    """The picklable `obj` of rank `source`, whatever the others pass. Call on every rank."""
    if world.size == 1:
        return obj
    box = [obj]
    with world.pulse.doing("a broadcast", waits=True):
        dist.broadcast_object_list(box, src=source, device=world.device)
    return box[0]


def gather_objects(world: World, obj: Any) -> list[Any]:
    """The picklable objects of all ranks, in the order of ranks. Call on every rank."""
    if world.size == 1:
        return [obj]
    gathered: list[Any] = [None] * world.size
    with world.pulse.doing("gathering facts", waits=True):
        dist.all_gather_object(gathered, obj)
    return gathered


def any_rank(world: World, condition: bool) -> bool:
    """Whether `condition` holds on some rank. Call on every rank."""
    return all_reduce_sum(world, torch.tensor(float(condition), device=world.device)).item() > 0


def all_reduce_min(world: World, tensor: Tensor) -> Tensor:
    """The smallest over all ranks, element by element; in place. Call on every rank.

    Returns:
        `tensor` itself.
    """
    if world.size > 1:
        with world.pulse.doing("a minimum over ranks", waits=True):
            dist.all_reduce(tensor, op=dist.ReduceOp.MIN)
    return tensor


def barrier(world: World) -> None:
    """Wait until every rank is here. Call on every rank."""
    if world.size > 1:
        all_reduce_sum(world, torch.zeros(1, device=world.device)).item()


def new_groups(world: World, owners: Sequence[Sequence[int]]) -> list[Group]:
    """One group for each set of ranks in `owners`. Call on every rank with the same `owners`.

    Equal sets share one process group; one rank alone needs none.
    """
    handles: dict[tuple[int, ...], dist.ProcessGroup | None] = {}
    members = [_checked_members(world, ranks) for ranks in owners]
    for ranks in members:
        if ranks not in handles:
            handles[ranks] = _new_handle(world, ranks)
    return [Group(ranks=ranks, handle=handles[ranks]) for ranks in members]


def threads_per_rank(cores: frozenset[int], cores_on_node: Sequence[frozenset[int]]) -> int:
    """How many threads a rank may use.

    Args:
        cores: The cores that this rank may run on.
        cores_on_node: The same for each rank on the node, this one included. Ranks bound to cores
            of their own share nothing; ranks not bound share everything.
    """
    sharing = sum(bool(cores & others) for others in cores_on_node)
    return max(1, len(cores) // max(1, sharing))


def _check_same_device(world: World, store: Store) -> None:
    """One broken driver must not turn one rank of a GPU run into a CPU rank."""
    if world.rank == 0:
        store.set("device", world.device.type)
    expected = store.get("device").decode()
    if world.device.type != expected:
        raise ValueError(
            f"rank {world.rank} on {socket.gethostname()} would use {world.device.type} but rank 0 "
            f"uses {expected}; give device={expected} to see why, or device=cpu for all"
        )


def _check_own_device(world: World, store: Store) -> None:
    """NCCL wants a GPU for each rank, and fails in many words.

    Checked where the identity of a GPU is certain, also when every rank sees a single one.
    """
    if world.device.type != "cuda" or torch.version.cuda is None:
        return
    gpu = torch.cuda.get_device_properties(world.device).uuid
    if store.add(f"device/{gpu}", 1) > 1:
        raise ValueError(
            f"rank {world.rank} would share GPU {gpu} of {socket.gethostname()} with another rank: "
            f"{world.local_size} ranks are on this node, this one sees "
            f"{torch.cuda.device_count()} GPUs; start as many ranks on a node as it has GPUs"
        )


def _make_process_group(world: World, store: Store) -> None:
    dist.init_process_group(
        BACKENDS[world.device.type],
        store=store,
        rank=world.rank,
        world_size=world.size,
        timeout=timedelta(seconds=world.timeout_seconds),
        device_id=None if world.device.type == "cpu" else world.device,
    )


def _share_cores(world: World) -> None:
    """Give each CPU rank its share of the node; torchrun's own default is one thread each."""
    here = (socket.gethostname(), _usable_cores())
    places = gather_objects(world, here)
    if world.device.type == "cpu":
        on_node = [cores for host, cores in places if host == here[0]]
        torch.set_num_threads(threads_per_rank(here[1], on_node))


def _usable_cores() -> frozenset[int]:
    if sys.platform == "linux":
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _checked_members(world: World, ranks: Sequence[int]) -> tuple[int, ...]:
    members = tuple(sorted(set(ranks)))
    if not members or members[0] < 0 or members[-1] >= world.size:
        raise ValueError(f"a group needs ranks in 0 … {world.size - 1}, got {list(ranks)}")
    return members


def _new_handle(world: World, ranks: tuple[int, ...]) -> dist.ProcessGroup | None:
    if len(ranks) == 1:
        return None
    if len(ranks) == world.size:
        return dist.group.WORLD
    timeout = timedelta(seconds=world.timeout_seconds)
    handle = dist.new_group(list(ranks), timeout=timeout)  # a collective of ALL ranks
    return handle if isinstance(handle, dist.ProcessGroup) else None
