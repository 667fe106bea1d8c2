"""Models side by side: each in its process, computing in turn, so that all see the same machine."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from peers.allocator import Allocator
from peers.environments import CACHE, make_environment

BENCHMARKS = Path(__file__).parents[1]
WARM_UP = 2
"""Calls that do not count: code is compiled, and memory is asked for."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a worker runs."""

    peer: str
    """Environment and module: own, mace, nequip, sevennet."""
    variant: str
    """What the module calls it."""


MODELS = {
    "ours": Model(peer="own", variant="small"),
    "MACE small": Model(peer="mace", variant="small"),
    "MACE medium": Model(peer="mace", variant="medium"),
    "NequIP S": Model(peer="nequip", variant="S"),
    "NequIP S eager": Model(peer="nequip", variant="S+eager"),
    "NequIP 32": Model(peer="nequip", variant="32"),
    "NequIP 32 eager": Model(peer="nequip", variant="32+eager"),
    "SevenNet-0": Model(peer="sevennet", variant="0"),
}
OURS = "ours"


class Connection:
    """A worker that is running."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def ask(self, what: str, name: str | None = None) -> dict[str, Any]:
        """Its answer.

        Raises:
            RuntimeError: it ended; the last lines that it printed are in the message.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({what: name}) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            last = "\n".join(self._log.read_text(encoding="utf-8").splitlines()[-5:])
            raise RuntimeError(f"a worker ended, see {self._log}:\n{last}")
        return json.loads(answer)


@contextmanager
def running(name: str, *, threads: int, allocator: Allocator) -> Iterator[Connection]:
    """A worker for one of `MODELS`, ended at the end.

    Args:
        name: Of the model.
        threads: That it may compute with.
        allocator: Whether it keeps pages.
    """
    model = MODELS[name]
    command = [str(make_environment(model.peer)), "-m", "peers.worker", model.peer, model.variant]
    command += ["--threads", str(threads), "--allocator", allocator]
    paths = [str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "GFM_ALLOCATOR": "system",  # the worker sets it, for all models alike
    }
    CACHE.mkdir(parents=True, exist_ok=True)
    log = CACHE / f"{name.replace(' ', '-')}.log"
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield Connection(process, log)
        finally:
            process.kill()


@dataclass(frozen=True, kw_only=True, eq=False)
class Times:
    """Seconds of every model in every round."""

    cpu: Mapping[str, Float[np.ndarray, " rounds"]]
    """Of the processor, over all threads."""
    wall: Mapping[str, Float[np.ndarray, " rounds"]]
    """Of the clock."""
    size: int
    """Atoms of the system, or structures of the batch."""


def time_in_turn(
    names: Sequence[str],
    what: str,
    cases: Sequence[str],
    *,
    rounds: int,
    threads: int,
    allocator: Allocator,
) -> dict[str, Times]:
    """Time every case with every model, a turn of each in every round.

    Args:
        names: Of models.
        what: "call" or "step".
        cases: Systems, or batches.
        rounds: Turns of each that count.
        threads: Of each model, which computes alone.
        allocator: Whether workers keep pages.
    """
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(running(name, threads=threads, allocator=allocator))
            for name in names
        }
        return {case: _time_case(workers, what, case, rounds) for case in cases}


def _time_case(workers: Mapping[str, Connection], what: str, case: str, rounds: int) -> Times:
    for worker in workers.values():
        for _ in range(WARM_UP):
            _succeeded(worker.ask(what, case))
    taken = [
        {name: _succeeded(worker.ask(what, case)) for name, worker in workers.items()}
        for _ in range(rounds)
    ]
    (size,) = {answer["size"] for answer in taken[0].values()}
    return Times(
        cpu={name: np.array([answers[name]["cpu"] for answers in taken]) for name in workers},
        wall={name: np.array([answers[name]["wall"] for answers in taken]) for name in workers},
        size=size,
    )


def _succeeded(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise RuntimeError(f"a worker failed: {answer['error']}")
    return answer
