"""Models that learn in processes of their own, each bound to a core; what came out is kept.

A result has a key of the data, the recipe, the versions and the settings, and is not computed again
while the key is the same; our own code as such is not part of it, so remove our results where a
change of it matters.
"""

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gfm_models.loss import LossConfig
from gfm_models.presets import preset
from gfm_pretrain.training_options import TrainingOptions

from peers.environments import PACKAGES, make_environment, pinned

BENCHMARKS = Path(__file__).parents[1]
ERRORS = {
    "forces_mae": "forces MAE meV/Å",
    "forces_rmse": "RMSE",
    "energy_mae": "energy MAE meV/atom",
    "energy_rmse": "RMSE",
}


FINISHED = ("forces MAE meV/Å, steps", "end", "energy MAE meV/atom, steps", "end")
"""Titles of what `Case.finish` gives."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model that is trained on some structures for some time."""

    folder: Path
    """As `peers.learning` reads it: of the structures, the same for all models."""
    model: str
    """Its name in tables."""
    peer: str
    """Its module."""
    variant: str
    batch_size: int
    seconds: float
    """Of the processor."""

    @property
    def result_path(self) -> Path:
        """Where the result is kept: what has another key is another file."""
        key = hashlib.sha256(json.dumps(self._key()).encode()).hexdigest()[:8]
        readable = self.model.replace(",", "").replace(" ", "-")
        return self.folder / f"{readable}-{self.seconds:g}-{key}.json"

    def _key(self) -> list[Any]:
        """All that a result depends on beside the time."""
        peers = BENCHMARKS / "peers"
        files = [peers / "learning.py", peers / f"{self.peer}_learner.py"]
        data = ("train.extxyz", "test.extxyz", "reference_energies.json")
        files += [self.folder / file for file in data]
        if self.peer == "own":
            parts = (preset(self.variant.split()[0]), LossConfig(), TrainingOptions(steps=1))
            settings = [asdict(part) for part in parts]
        else:
            settings = [PACKAGES[self.peer]]
            files.append(peers / f"{self.peer}_peer.py")
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
        return [pinned("torch"), self.variant, self.batch_size, settings, digests]

    @property
    def is_known(self) -> bool:
        """Whether there is a result."""
        return self.result_path.exists()

    @property
    def result(self) -> dict[str, Any]:
        """What came out, see `peers.learning.learn`."""
        return json.loads(self.result_path.read_text(encoding="utf-8"))

    def row(self) -> list[str]:
        """Parameters, steps and errors at the end, in meV."""
        found = self.result
        end = found["curve"][-1]
        errors = [f"{1000 * end[key]:.3g}" for key in ERRORS]
        return [str(found["parameters"]), str(end["steps"]), *errors]

    def finish(self) -> list[str]:
        """Forces and energies when steps were over, and at the end, in meV."""
        found = self.result
        ends = found["stepped"], found["curve"][-1]
        return [f"{1000 * end[key]:.3g}" for key in ("forces_mae", "energy_mae") for end in ends]

    def curve(self, key: str) -> tuple[list[float], list[float]]:
        """Times in s and one of `ERRORS` in meV."""
        points = self.result["curve"]
        return [p["seconds"] for p in points], [1000 * p[key] for p in points]

    @property
    def log(self) -> Path:
        """Where its process writes."""
        return self.result_path.with_suffix(".log")

    def start(self, *, core: int) -> subprocess.Popen[bytes]:
        """The process."""
        command = [make_environment(self.peer), "-m", "peers.learning", self.peer, self.variant]
        command += [self.folder, "--seconds", self.seconds, "--batch-size", self.batch_size]
        command += ["--out", self.result_path]
        with self.log.open("wb") as file:
            return subprocess.Popen(
                ["taskset", "-c", str(core), *map(str, command)],
                cwd=BENCHMARKS,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=file,
                stderr=subprocess.STDOUT,
            )


def train_all(cases: Sequence[Case], *, at_once: int) -> list[Path]:
    """Train what has no result yet, so many models at once, each bound to a core.

    Returns:
        Logs of those that failed.
    """
    waiting = [case for case in cases if not case.is_known]
    cores = sorted(os.sched_getaffinity(0))[:at_once]
    running: dict[int, tuple[Path, subprocess.Popen[bytes]]] = {}
    failed: list[Path] = []
    while waiting or running:
        for core in cores:
            if core in running and running[core][1].poll() is not None:  # has ended
                log, ended = running.pop(core)
                failed += [log] if ended.returncode else []
            if core not in running and waiting:
                case = waiting.pop(0)
                print(time.strftime("%H:%M:%S"), case.model, case.folder.name, flush=True)
                running[core] = case.log, case.start(core=core)
        time.sleep(1)
    return failed
