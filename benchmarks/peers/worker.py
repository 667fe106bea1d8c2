"""One model in a process of its own, which computes when it is asked to.

    python -m peers.worker MODEL VARIANT --threads N --allocator kept|stock

Reads a request as one line of JSON from its standard input and writes the answer as one line to
its standard output: {"call": SYSTEM} and {"step": BATCH} give seconds, {"memory": null} megabytes,
{"load": null} those of the model alone. What is not there yet (calculator, structure, training
state) is made at the first request.
"""

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

import torch

from peers.allocator import set_allocator
from peers.structures import BATCHES, Moving, system

PROPERTIES = ["energy", "forces", "stress"]
TURN = 0.2
"""Seconds of the clock."""
LONG = 2.0
"""Seconds of a run that counts although it is the first."""
STATUS = Path("/proc/self/status")


def main() -> None:
    """Answer until the input ends."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", choices=["own", "mace", "nequip", "sevennet"])
    parser.add_argument("variant")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--allocator", choices=["kept", "stock"], required=True)
    options = parser.parse_args()
    set_allocator(options.allocator)
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    with answers_alone() as channel:
        serve(Worker(options.model, options.variant), channel)


def answers_alone() -> TextIO:
    """The standard output; from now on what packages print goes to the standard error."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel


class Worker:
    """The model, and what was made for it so far."""

    def __init__(self, model: str, variant: str) -> None:
        peer = import_module(f"peers.{model}_peer")
        self.calculator = cache(lambda: peer.calculator(variant))
        self.moving = cache(lambda name: Moving(system(name)))
        self.batch = cache(lambda name: BATCHES[name]())
        self.step = cache(lambda name: peer.training_step(variant, self.batch(name)))

    def load(self) -> dict[str, float]:
        """Make the calculator; what the process then holds."""
        self.calculator()
        return memory()

    def call(self, name: str) -> dict[str, float]:
        """Seconds of energy, forces and stress of a structure that moves before every call."""
        calculator, moving = self.calculator(), self.moving(name)
        seconds = timed(lambda: calculator.calculate(moving.move(), PROPERTIES))
        return {**seconds, "size": len(moving.atoms)}

    def train(self, name: str) -> dict[str, float]:
        """Seconds of a training step."""
        return {**timed(self.step(name)), "size": len(self.batch(name))}


def timed(run: Callable[[], object]) -> dict[str, float]:
    """Seconds of a run, of the clock and of the processor over all threads.

    The first run finds caches that other processes have filled, and at times Python collects
    garbage in it, which takes 0.2 s. Unless it is long it does not count, and those that follow
    are averaged over a turn.
    """
    first = _average(run, 1)
    if first["wall"] > LONG:
        return first
    second = _average(run, 1)
    return _average(run, max(1, int(TURN / second["wall"])))


def _average(run: Callable[[], object], n: int) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(n):
        run()
    return {"cpu": (time.process_time() - cpu) / n, "wall": (time.perf_counter() - wall) / n}


def memory() -> dict[str, float]:
    """Megabytes that this process holds, and the most it held."""
    lines = dict(line.split(":", 1) for line in STATUS.read_text(encoding="utf-8").splitlines())
    return {name: int(lines[name].split()[0]) / 1e3 for name in ("VmRSS", "VmHWM")}


def serve(worker: Worker, channel: TextIO) -> None:
    """Answer every request; of one that needs more memory than there is, say so."""
    answers: dict[str, Callable[[Any], dict[str, float]]] = {
        "load": lambda _: worker.load(),
        "call": worker.call,
        "step": worker.train,
        "memory": lambda _: memory(),
    }
    for line in sys.stdin:
        ((what, name),) = json.loads(line).items()
        try:
            answer: dict[str, Any] = answers[what](name)
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            answer = {"error": "out of memory"}
        print(json.dumps(answer), file=channel, flush=True)


if __name__ == "__main__":
    main()
