"""A program of several ranks for tests of processes: the first argument names what it does."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import torch
from gfm_pretrain.failure import run_main
from gfm_pretrain.process import (
    World,
    all_reduce_sum,
    barrier,
    broadcast_object,
    gather_objects,
    new_groups,
)


def say(world: World, **values: object) -> None:
    if world.rank == 0:
        sys.stdout.write(json.dumps(values))


def collectives(world: World) -> None:
    owners = [[0], [0, world.size - 1], range(world.size), [world.size - 1, 0]]
    groups = new_groups(world, owners)
    mine = torch.tensor([world.rank + 1.0], dtype=torch.float64)
    sums = [
        all_reduce_sum(world, mine.clone(), group).item() if world.rank in group.ranks else None
        for group in groups
    ]
    barrier(world)
    say(
        world,
        launcher=world.launcher,
        size=world.size,
        ranks=gather_objects(world, (world.rank, world.local_rank, world.local_size)),
        device=str(world.device),
        total=all_reduce_sum(world, mine).item(),
        group_sums=gather_objects(world, sums),
        broadcast=broadcast_object(world, {"from": world.rank}, source=world.size - 1),
        threads=gather_objects(world, torch.get_num_threads()),
        process_group=torch.distributed.is_initialized(),
        mpi4py="mpi4py" in sys.modules,
    )


def others_wait(world: World, fail: Callable[[], object]) -> None:
    """Rank 1 fails while the others wait for it."""
    barrier(world)
    if world.rank == 1:
        fail()
    barrier(world)


def raise_value_error() -> None:
    raise ValueError("the cutoff must be\npositive, got -1")


def raise_runtime_error() -> None:
    raise RuntimeError("boom")


def raise_in_thread() -> None:
    threading.Thread(target=raise_runtime_error).start()
    time.sleep(1000)


def stop_rank_0(world: World) -> None:
    """The others wait for it in what counts as training."""
    world.pulse.stepped(1)
    barrier(world)
    if world.rank == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
    barrier(world)


def raise_differently(world: World) -> None:
    raise ValueError(f"the same mistake, found by {'all' if world.rank else 'rank 0'}")


def raise_everywhere(world: World) -> None:
    raise ValueError("unknown key 'batches'")


SCENARIOS: dict[str, Callable[[World], object]] = {
    "collectives": collectives,
    "value_error": lambda world: others_wait(world, raise_value_error),
    "runtime_error": lambda world: others_wait(world, raise_runtime_error),
    "thread": lambda world: others_wait(world, raise_in_thread),
    "exit_3": lambda world: others_wait(world, lambda: sys.exit(3)),
    "exit_0": lambda world: sys.exit(0),
    "vanish": lambda world: others_wait(world, lambda: os._exit(0)),
    "kill_9": lambda world: others_wait(world, lambda: os.kill(os.getpid(), signal.SIGKILL)),
    "stop": stop_rank_0,
    "differently": raise_differently,
    "everywhere": raise_everywhere,
    "interrupted": lambda world: signal.raise_signal(signal.SIGINT),
}


def main() -> int:
    scenario, device = SCENARIOS[sys.argv[1]], (sys.argv[2:] or ["cpu"])[0]
    return run_main(
        scenario, program="gfm-pretrain", device=device, timeout_seconds=60, hang_seconds=10
    )


if __name__ == "__main__":
    sys.exit(main())
