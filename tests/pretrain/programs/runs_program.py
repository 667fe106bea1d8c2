"""A program of several ranks for test_resume.py: one run after the other.

    runs_program.py JOBS

JOBS is JSON: a list of {"config": FILE, "overrides": […]}. Each is run as `gfm-pretrain FILE …` is.
With "stop_after": STEP it is asked to stop then, as a signal asks. With "disk_full": RANK this rank
finds, from its first step on, that no file can be larger than a kilobyte; with "read_only": RANK
that nothing can be written at all. What came of each goes to stdout, as the ranks saw it.
"""

import json
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from gfm_pretrain.config import RunConfig
from gfm_pretrain.configuration import read_configuration
from gfm_pretrain.failure import run_main
from gfm_pretrain.preemption import StopRequest
from gfm_pretrain.process import World, gather_objects
from gfm_pretrain.step_result import StepResult
from gfm_pretrain.train import pretrain
from gfm_pretrain.trainer import Trainer

MOST_BYTES = 1024
NOBODY = 65534


def come_of(job: dict[str, Any], world: World) -> str:
    """What a run ended with on this rank: the class of an exception and what it says."""
    config = read_configuration(RunConfig, Path(job["config"]), job["overrides"])
    world = replace(world, stop=StopRequest())
    try:
        with patch.object(Trainer, "train_step", hooked(job, world)), limits_restored():
            pretrain(config, world)
    except (Exception, SystemExit) as error:
        return f"{type(error).__name__}: {error}"
    return "finished"


def hooked(job: dict[str, Any], world: World):
    train_step = Trainer.train_step

    def train(trainer: Trainer) -> StepResult:
        if job.get("disk_full") == world.rank:
            resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_BYTES, resource.RLIM_INFINITY))
        if job.get("read_only") == world.rank:
            forbid_writing(Path(trainer.config.run))
        if job.get("stop_after") == trainer.step + 1 and world.rank == world.size - 1:
            world.stop.reason = "SIGUSR1"
        return train_step(trainer)

    return train


@contextmanager
def limits_restored() -> Iterator[None]:
    before, user = resource.getrlimit(resource.RLIMIT_FSIZE), os.geteuid()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        os.seteuid(user)


def forbid_writing(run: Path) -> None:
    """Also to root, who is somebody else until the limits are restored."""
    if os.getuid() == 0:
        os.seteuid(NOBODY)
    else:
        for folder in (run, run / "snapshots"):
            folder.chmod(0o500)


def run_jobs(jobs: list[dict[str, Any]], world: World) -> None:
    found = [gather_objects(world, come_of(job, world)) for job in jobs]
    if world.rank == 0:
        sys.stdout.write(json.dumps(found))


def main() -> int:
    jobs = json.loads(Path(sys.argv[1]).read_text())
    return run_main(
        lambda world: run_jobs(jobs, world),
        program="runs_program",
        device="cpu",
        timeout_seconds=120,
    )


if __name__ == "__main__":
    sys.exit(main())
