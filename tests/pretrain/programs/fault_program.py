"""Runs in which something goes wrong, for test_faults.py: `fault_program.py CONFIG FOLDER`.

Ranks are forked from this process, which has imported everything: a run of several ranks then takes
a second or two. Nobody ends the ranks that are left when one has gone, as launchers do: they have
to find out by themselves. FOLDER receives a JSON file for each scenario: what each rank said and
its exit status, for each of the scenario's runs one after the other.
"""

import ctypes
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any

import gfm_pretrain.snapshots.write
import gfm_pretrain.train
import gfm_pretrain.trainer
import torch
from gfm_pretrain.cli import main
from gfm_pretrain.trainer import Trainer

N_AT_ONCE = 3
MOST_SECONDS = 120.0
"""After which ranks that are left are killed, and counted as hung."""
HANG = "faults.hang_seconds=8"
LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

Fault = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One start of the command on some ranks."""

    faults: dict[int, Fault]
    """What goes wrong on which rank; called there before the command."""
    n_ranks: int = 2
    overrides: tuple[str, ...] = ()
    stopped: int | None = None
    """A rank that never ends by itself."""
    absent: tuple[int, ...] = ()
    """Ranks that are not started."""


WITHOUT_FAULT = Run(faults={})


# What goes wrong


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_after(seconds: float) -> None:
    """From then on, wherever the rank is by then."""
    timer = threading.Timer(seconds, killed)
    timer.daemon = True
    timer.start()


def stopped() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def signalled(*signals: signal.Signals) -> Fault:
    def fault() -> None:
        for number in signals:
            os.kill(os.getpid(), number)
            time.sleep(0.1)

    return fault


def raised(error: BaseException) -> Fault:
    def fault() -> None:
        raise error

    return fault


def raised_in_thread() -> None:
    threading.Thread(target=raised(RuntimeError("boom in a thread"))).start()
    time.sleep(1000)


def deadlocked() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def deaf() -> None:
    """In C code that lets no other thread run, some time after the first steps."""
    time.sleep(2.5)
    ctypes.PyDLL(None).sleep(1000)


# When it goes wrong


def before(owner: Any, name: str, fault: Fault, *, nth: int = 1) -> Fault:
    """Let `fault` happen before the nth call of a function."""

    def set_trap() -> None:
        original = getattr(owner, name)
        calls = []

        @wraps(original)
        def trapped(*args: Any, **kwargs: Any) -> Any:
            calls.append(None)
            if len(calls) == nth:
                fault()
            return original(*args, **kwargs)

        setattr(owner, name, trapped)

    return set_trap


def in_set_up(fault: Fault) -> Fault:
    return before(gfm_pretrain.train, "set_up", fault)


def in_forward(fault: Fault) -> Fault:
    """In the fourth step."""
    return after_steps(lambda _: before(gfm_pretrain.trainer, "predict", fault)())


def in_collective(fault: Fault) -> Fault:
    return before(gfm_pretrain.trainer, "agree", fault, nth=4)


def in_validation(fault: Fault) -> Fault:
    """In the one after the third step."""
    trap = before(gfm_pretrain.trainer, "error_sums", fault)
    return after_steps(lambda _: trap(), n_steps=2)


def in_snapshot(name: str, fault: Fault) -> Fault:
    """In the second one, before a function of write.py."""
    trap = before(gfm_pretrain.snapshots.write, name, fault)
    return after_steps(lambda _: trap())


def after_steps(action: Callable[[Trainer], None], *, n_steps: int = 3) -> Fault:
    """Do something to the trainer once some steps are done."""

    def set_trap() -> None:
        train_step = Trainer.train_step

        def trapped(trainer: Trainer) -> Any:
            if trainer.step == n_steps:
                action(trainer)
            return train_step(trainer)

        Trainer.train_step = trapped  # pyright: ignore[reportAttributeAccessIssue] (in a process of its own)

    return set_trap


def flip_bit(trainer: Trainer) -> None:
    weight = next(trainer.potential.backbone.parameters())
    with torch.no_grad():
        weight.view(-1).view(torch.int64)[1] ^= 1


def spoil_head(trainer: Trainer) -> None:
    """For one step its loss is not finite on this rank."""
    original = gfm_pretrain.trainer.weighted_loss
    left = [1]

    def spoilt(*args: Any) -> torch.Tensor:
        return original(*args) * (float("nan") if left and left.pop() else 1.0)

    gfm_pretrain.trainer.weighted_loss = spoilt


def move_slowly(trainer: Trainer) -> None:
    """Long, but with signs of progress."""
    for _ in range(24):
        trainer.world.pulse.beat("moving slowly")
        time.sleep(0.5)


def wait_for_nobody(trainer: Trainer) -> None:
    """For a message that rank 0 never sends, as when ranks do not do the same in the same order."""
    with trainer.world.pulse.doing("a message", waits=True):
        torch.distributed.recv(torch.zeros(1), src=0)


def write_slowly() -> None:
    time.sleep(12.0)


def limit_files() -> None:
    """No file may become larger than the metrics of a few steps: what a full disk is like."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))


def without_privileges() -> None:
    """Let permissions count for root, too: give up the capabilities that override them."""
    version_3, this_process = 0x20080522, 0
    header = (ctypes.c_uint32 * 2)(version_3, this_process)
    assert ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()) == 0


def read_only_folder() -> None:
    """The folder of the run is there and cannot be written in."""
    Path(sys.argv[2].removeprefix("run=")).mkdir(mode=0o555)
    without_privileges()


USR1, TERM, INT = signal.SIGUSR1, signal.SIGTERM, signal.SIGINT
THREE: dict[str, Any] = {"n_ranks": 3}
BOOM = RuntimeError("boom")


def then_continued(faults: dict[int, Fault], **options: Any) -> list[Run]:
    return [Run(faults=faults, **options), WITHOUT_FAULT]


SCENARIOS: dict[str, list[Run]] = {
    "straight": [WITHOUT_FAULT],
    "kill: set-up": then_continued({1: in_set_up(killed)}),
    "kill: forward": then_continued({1: in_forward(killed)}),
    "kill: collective": then_continued({0: in_collective(killed)}),
    "kill: validation": then_continued({1: in_validation(killed)}),
    "kill: file of a snapshot": then_continued({0: in_snapshot("flush", killed)}),
    "kill: end of a snapshot": then_continued({0: in_snapshot("publish_folder", killed)}),
    **{
        f"kill: {seconds} s": [
            *(Run(faults={n: in_set_up(partial(killed_after, seconds))}) for n in range(2)),
            WITHOUT_FAULT,
        ]
        for seconds in (0.3, 0.9)
    },
    "kill: one of three": [Run(faults={1: in_forward(killed)}, **THREE)],
    "raise: forward": [Run(faults={1: in_forward(raised(BOOM))})],
    "raise: rank 0": [Run(faults={0: in_forward(raised(BOOM))})],
    "raise: memory": [Run(faults={1: in_forward(raised(MemoryError("no memory left")))})],
    "raise: thread": [Run(faults={1: in_forward(raised_in_thread)})],
    "raise: validation": [Run(faults={1: in_validation(raised(ValueError("a wrong label")))})],
    "raise: snapshot": [Run(faults={0: in_snapshot("flush", raised(BOOM))})],
    "hang: deadlock": [Run(faults={1: in_forward(deadlocked)}, overrides=(HANG,), **THREE)],
    "hang: deadlock of rank 0": [Run(faults={0: in_forward(deadlocked)}, overrides=(HANG,))],
    "hang: stop": [Run(faults={1: in_forward(stopped)}, overrides=(HANG,), stopped=1, **THREE)],
    "hang: stop of rank 0": [
        Run(faults={0: in_forward(stopped)}, overrides=(HANG,), stopped=0, **THREE)
    ],
    "hang: deaf": [Run(faults={1: in_forward(deaf)}, overrides=(HANG,), stopped=1)],
    "hang: each other": [Run(faults={1: after_steps(wait_for_nobody)}, overrides=(HANG,))],
    "slow": [
        Run(
            faults={
                0: in_snapshot("publish_folder", write_slowly),
                1: after_steps(move_slowly),
            },
            overrides=(HANG,),
        )
    ],
    "slow set-up": [Run(faults={1: in_set_up(write_slowly)}, overrides=(HANG,))],
    "stop: one rank": then_continued({1: in_forward(signalled(USR1))}),
    "stop: all ranks": then_continued(dict.fromkeys((0, 1), in_forward(signalled(TERM)))),
    "stop: set-up": then_continued({1: in_set_up(signalled(USR1))}),
    "stop: validation": then_continued({1: in_validation(signalled(USR1))}),
    "stop: snapshot": then_continued({0: in_snapshot("flush", signalled(TERM))}),
    "stop: last step": then_continued({0: after_steps(lambda _: signalled(INT)(), n_steps=5)}),
    "stop: at once": [Run(faults={0: in_forward(signalled(INT, INT))})],
    "replicas": then_continued({1: after_steps(flip_bit)}),
    "not finite": [Run(faults={1: after_steps(spoil_head)})],
    "read-only": [Run(faults={0: read_only_folder, 1: without_privileges})],
    "disk full": [Run(faults={0: in_forward(limit_files)}), WITHOUT_FAULT],
}


def start_rank(rank: int, run: Run, port: int, argv: list[str]) -> int:
    """Fork a rank; its process."""
    said = Path(argv[1].removeprefix("run=")).with_suffix(f".rank-{rank}")
    process = os.fork()
    if process:
        return process
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    values = (rank, run.n_ranks, rank, run.n_ranks, "127.0.0.1", port)
    os.environ.update(zip(LAUNCHER, map(str, values), strict=True))
    sys.argv = ["gfm-pretrain", *argv]
    run.faults.get(rank, lambda: None)()
    status = main(argv)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def finish(run: Run, argv: list[str]) -> dict[str, Any]:
    """Start all ranks and wait for them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start = time.monotonic()
    ranks = [rank for rank in range(run.n_ranks) if rank not in run.absent]
    processes = {rank: start_rank(rank, run, port, argv) for rank in ranks}
    statuses: dict[int, int | None] = {}
    while processes.keys() - statuses.keys() - {run.stopped}:
        late = time.monotonic() - start > MOST_SECONDS
        for rank in processes.keys() - statuses.keys():
            if late:
                os.kill(processes[rank], signal.SIGKILL)
            process, status = os.waitpid(processes[rank], 0 if late else os.WNOHANG)
            if process:
                statuses[rank] = None if late else os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    seconds = time.monotonic() - start
    if run.stopped is not None and run.stopped not in statuses:
        os.kill(processes[run.stopped], signal.SIGKILL)
        os.waitpid(processes[run.stopped], 0)
    base = Path(argv[1].removeprefix("run="))
    return {
        "seconds": seconds,
        "statuses": {rank: statuses.get(rank) for rank in ranks},
        "said": {rank: base.with_suffix(f".rank-{rank}").read_text() for rank in ranks},
    }


def play(name: str, config: str, folder: Path) -> None:
    """All runs of a scenario, one after the other, in one folder."""
    results = []
    for run in SCENARIOS[name]:
        argv = [config, f"run={folder / slug(name)}", *run.overrides]
        results.append(finish(run, argv))
    unfinished = folder / f"{slug(name)}.unfinished"
    unfinished.write_text(json.dumps(results))
    unfinished.rename(folder / f"{slug(name)}.json")


def slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def play_all(names: list[str], config: str, folder: Path) -> None:
    """Some scenarios at a time, each in a process of its own."""
    running: set[int] = set()
    for name in names:
        if len(running) == N_AT_ONCE:
            running.discard(os.wait()[0])
        process = os.fork()
        if not process:
            play(name, config, folder)
            os._exit(0)
        running.add(process)
    while running:
        running.discard(os.wait()[0])


if __name__ == "__main__":
    play_all(sys.argv[3:] or list(SCENARIOS), sys.argv[1], Path(sys.argv[2]))
