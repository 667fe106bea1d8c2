import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from environments import BY_HAND, SRUN
from gfm_pretrain import process as process_module
from gfm_pretrain.process import (
    Group,
    World,
    all_reduce_sum,
    barrier,
    broadcast_object,
    gather_objects,
    new_groups,
    open_world,
    threads_per_rank,
)
from launch import launch
from torch.distributed import HashStore  # pyright: ignore[reportPrivateImportUsage] (public in the docs)

PROGRAM = Path(__file__).parent / "programs" / "world_program.py"


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


@pytest.mark.parametrize(("sees", "seen_by_rank_0"), [(4, "GPU-a"), (1, "GPU-b")])
def test_two_ranks_may_not_share_a_gpu(monkeypatch, sees, seen_by_rank_0):
    """Also where the launcher shows each rank one GPU, which then is number 0 for all."""
    gpu = SimpleNamespace(uuid="GPU-a")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: sees)
    store = HashStore()
    store.add(f"device/{seen_by_rank_0}", 1)
    world = World(
        rank=1,
        size=2,
        local_rank=1,
        local_size=2,
        launcher="srun",
        device=torch.device("cuda", 0),
    )
    if seen_by_rank_0 != gpu.uuid:
        process_module._check_own_device(world, store)
        return
    with pytest.raises(
        ValueError, match=r"^rank 1 would share GPU GPU-a of .*: 2 ranks .* sees 4 GPUs; start as"
    ):
        process_module._check_own_device(world, store)


@pytest.mark.mpi
@pytest.mark.parametrize(("launcher", "n_ranks"), [("mpiexec", 3), ("torchrun", 2)])
def test_collectives(launcher, n_ranks):
    result = launch(PROGRAM, "collectives", n_ranks=n_ranks, launcher=launcher)
    assert result.returncode == 0, result.stderr
    kind = {"mpiexec": "mpi", "torchrun": "torchrun"}[launcher]
    check_collectives(result.stdout, launcher=kind, n_ranks=n_ranks)


@pytest.mark.mpi
@pytest.mark.parametrize("launcher", ["srun", "torchrun"])
def test_collectives_of_ranks_that_only_their_variables_bring_together(launcher):
    """What srun sets, without Slurm; and RANK and WORLD_SIZE set by hand, without LOCAL_RANK."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = str(listening.getsockname()[1])
    names = {"srun": ("SLURM_PROCID", "SLURM_LOCALID"), "torchrun": ("RANK", "RANK")}[launcher]
    common = {"srun": SRUN, "torchrun": BY_HAND}[launcher]
    common = {**common, "SLURM_STEP_TASKS_PER_NODE": "2", "MASTER_PORT": port}
    common = {**common, "MASTER_ADDR": "127.0.0.1"}
    if launcher == "srun":
        common["SLURM_STEP_NUM_TASKS"] = "2"

    def rank(number: int):
        environ = {**common, **dict.fromkeys(names, str(number))}
        return launch(PROGRAM, "collectives", launcher="alone", environ=environ)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(rank, range(2)))
    assert [result.returncode for result in results] == [0, 0], [r.stderr for r in results]
    check_collectives(results[0].stdout, launcher=launcher, n_ranks=2)
    assert results[1].stdout == ""


def check_collectives(stdout: str, *, launcher: str, n_ranks: int) -> None:
    last, total = n_ranks, sum(range(n_ranks + 1))
    sums = [[None, None, total, None] for _ in range(n_ranks)]
    sums[0] = [1, 1 + last, total, 1 + last]
    sums[-1] = [None, 1 + last, total, 1 + last]
    said = json.loads(stdout)
    assert said.pop("threads")[0] >= 1
    assert said == {
        "launcher": launcher,
        "size": n_ranks,
        "ranks": [[rank, rank, n_ranks] for rank in range(n_ranks)],
        "device": "cpu",
        "total": total,
        "group_sums": sums,
        "broadcast": {"from": n_ranks - 1},
        "process_group": True,
        "mpi4py": launcher == "mpi",
    }
