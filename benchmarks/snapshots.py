"""How long training waits for a snapshot: written beside it, and in its way.

    python benchmarks/snapshots.py [FOLDER] [--repetitions N]

In one process, for models of several sizes in float32: weights, averages and two moments, as a
trainer with AdamW has them. Each size is written N times into FOLDER (a temporary one), once more
before that for memory that is kept. Medians; beside them what the disk took in all, and how much
slower products of matrices, one thread of them, go on meanwhile.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from gfm_pretrain.process import World
from gfm_pretrain.snapshots.background import Background, Job, Notes
from gfm_pretrain.snapshots.host_copy import HostCopy
from gfm_pretrain.snapshots.options import SnapshotOptions
from gfm_pretrain.snapshots.write import commit_snapshot, write_parts
from gfm_pretrain.table import text_table
from machine import describe_machine

SIZES = (1_000_000, 4_000_000, 18_000_000)
"""Weights; the last as many as the backbone of arXiv 2506.21788 has."""
N_TENSORS = 64
KINDS = ("weight", "average", "exp_avg", "exp_avg_sq")
ALONE = World(
    rank=0, size=1, local_rank=0, local_size=1, launcher="single", device=torch.device("cpu")
)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="where to write")
    parser.add_argument("--repetitions", type=int, default=5, metavar="N")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(describe_machine(), end="\n\n")
    header = ("weights", "MB", "in the way, s", "beside: waited, s", "beside: in all, s", "slower")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        rows = [measure(Path(folder), size, arguments.repetitions) for size in SIZES]
    print(text_table(header, rows))


def measure(run: Path, n_weights: int, repetitions: int) -> tuple:
    """One row of the table."""
    tensors = {
        f"{kind}/{i}": torch.rand(n_weights // N_TENSORS)
        for kind in KINDS
        for i in range(N_TENSORS)
    }
    n_bytes = sum(t.numel() * t.element_size() for t in tensors.values())
    background, copy = Background(ALONE), HostCopy()
    quiet = rate_until(lambda: False, seconds=0.5)
    in_the_way, waited, in_all, rates = [], [], [], []
    for step in range(repetitions + 1):
        start = time.perf_counter()
        write(run, 2 * step, tensors)
        in_the_way.append(time.perf_counter() - start)
        start = time.perf_counter()
        parts = {"backbone": {name: copy(name, t) for name, t in tensors.items()}}
        background.start(job(run, 2 * step + 1, parts))
        waited.append(time.perf_counter() - start)
        rates.append(rate_until(lambda: background.is_ready))
        background.finish()
        in_all.append(time.perf_counter() - start)
    background.close()
    medians = [statistics.median(values[1:]) for values in (in_the_way, waited, in_all)]
    slower = quiet / statistics.median(rates[1:])
    seconds = (f"{median:.3f}" for median in medians)
    return (n_weights, round(n_bytes / 1e6), *seconds, f"{slower:.2f} times")


def rate_until(done: Callable[[], bool], *, seconds: float = 1e9) -> float:
    """Products of matrices per second, at least one, until something is done or time is up."""
    a, n, start = torch.rand(256, 256), 0, time.perf_counter()
    while True:
        torch.mm(a, a)
        n += 1
        passed = time.perf_counter() - start
        if done() or passed > seconds:
            return n / passed


def write(run: Path, step: int, tensors: dict[str, torch.Tensor]) -> None:
    """As a run that does not write beside the training."""
    work = job(run, step, {"backbone": tensors})
    work.commit(work.write())


def job(run: Path, step: int, parts: dict[str, dict[str, torch.Tensor]]) -> Job:
    """The snapshot of a step, of which the last two are kept."""

    def commit(files: Notes) -> None:
        options = SnapshotOptions(keep_last=2)
        commit_snapshot(run, step, files=files, facts={}, options=options)

    name = f"the snapshot of step {step}"
    return Job(name=name, write=lambda: write_parts(run, step, parts), commit=commit)


if __name__ == "__main__":
    main()
