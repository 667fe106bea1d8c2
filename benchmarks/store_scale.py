"""What an import of millions costs: size, time and memory, measured and extrapolated.

    python benchmarks/store_scale.py [--structures N] [--processes N] [--folder FOLDER]

Writes a file in the layout of ANI-1x (molecules of 10 to 26 atoms, random geometries), imports it
with `gfm data import` as a user would, watches the memory of all its processes, opens and verifies
the store, reads it at random, and extrapolates in proportion to 24 million structures. Memory is
given as a process owns it (anonymous) and with the pages of files that it has mapped, which the
system takes back when it needs them.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from gfm_pretrain.data.store.store import open_store
from gfm_pretrain.table import text_table
from machine import describe_machine
from store import write_ani1x

EXTRAPOLATED = 24_000_000
SAMPLE_SECONDS = 0.25
N_READS = 100_000
BATCH_SIZE = 32


@dataclass(kw_only=True)
class Memory:
    """Largest memory of one process of an import, in bytes."""

    anonymous: int = 0
    """What it owns."""
    resident: int = 0
    """With mapped files."""
    over: threading.Event = field(default_factory=threading.Event)

    def watch(self, pid: int) -> None:
        """Look at a process and its children until it is over."""
        while not self.over.wait(SAMPLE_SECONDS):
            for process in family(pid):
                status = read_status(process)
                self.anonymous = max(self.anonymous, status.get("RssAnon", 0))
                self.resident = max(self.resident, status.get("VmRSS", 0))


def main() -> None:
    """Write, import, read, extrapolate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--structures", type=int, default=1_000_000, metavar="N", help="(10^6)")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="(2)")
    parser.add_argument("--folder", type=Path, metavar="FOLDER", help="with room for all")
    arguments = parser.parse_args()
    print(describe_machine(), end=f"; {arguments.processes} processes\n\n")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        rows = measure(Path(folder), arguments.structures, arguments.processes)
    print(text_table(["quantity", f"{arguments.structures:,}", f"{EXTRAPOLATED:,}"], rows))


def measure(folder: Path, n: int, processes: int) -> list[list[str]]:
    """Rows of the table: measured, and in proportion."""
    path, out = write_ani1x(folder / "ani1x-release.h5", n, geometries=1000), folder / "store"
    seconds, memory = time_import(path, out, processes)
    n_bytes = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    start = time.perf_counter()
    store = open_store(out, verify=False)
    opening = time.perf_counter() - start
    start = time.perf_counter()
    open_store(out)
    verifying = time.perf_counter() - start
    factor = EXTRAPOLATED / n
    stored = sum(len(split) for split in store.splits.values())
    return [
        ["structures in the store", f"{stored:,}", f"{stored * factor:,.0f}"],
        ["size (GB)", f"{n_bytes / 1e9:.3f}", f"{n_bytes * factor / 1e9:.1f}"],
        ["bytes per structure", f"{n_bytes / stored:.0f}", ""],
        ["import (min)", f"{seconds / 60:.1f}", f"{seconds * factor / 60:.0f}"],
        ["structures imported per second", f"{n / seconds:,.0f}", ""],
        ["largest process, its own (MB)", f"{memory.anonymous / 1e6:.0f}", ""],
        ["largest process, with files (MB)", f"{memory.resident / 1e6:.0f}", ""],
        ["open (s)", f"{opening:.2f}", f"{opening * factor:.1f}"],
        ["open and verify (s)", f"{verifying:.2f}", f"{verifying * factor:.0f}"],
        ["random reads per second", f"{time_reads(out):,.0f}", ""],
    ]


def time_import(path: Path, out: Path, processes: int) -> tuple[float, Memory]:
    """Seconds of `gfm data import`, and its memory."""
    words = ["data", "import", "ani1x", path, "--out", out, "--processes", processes]
    start = time.perf_counter()
    job = subprocess.Popen(
        [sys.executable, "-m", "gfmcalc.cli", *map(str, words)], stdout=subprocess.DEVNULL
    )
    memory = Memory()
    watcher = threading.Thread(target=memory.watch, args=(job.pid,))
    watcher.start()
    status = job.wait()
    memory.over.set()
    watcher.join()
    if status:
        raise SystemExit(f"the import ended with status {status}")
    return time.perf_counter() - start, memory


def time_reads(out: Path) -> float:
    """Structures per second, in random batches out of the training set."""
    train = open_store(out, verify=False).splits["train"]
    places = np.random.default_rng(0).integers(len(train), size=N_READS)
    start = time.perf_counter()
    for first in range(0, N_READS, BATCH_SIZE):
        train.read(places[first : first + BATCH_SIZE])
    return N_READS / (time.perf_counter() - start)


def family(pid: int) -> Iterator[int]:
    """A process and all that it has started."""
    yield pid
    path = Path(f"/proc/{pid}/task/{pid}/children")
    for child in path.read_text().split() if path.exists() else ():
        yield from family(int(child))


def read_status(pid: int) -> dict[str, int]:
    """Memory of a process in bytes, by the names of Linux; nothing if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): 1024 * int(value) for name, value, _ in pairs}


if __name__ == "__main__":
    main()
