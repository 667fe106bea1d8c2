"""A program for snapshots/test_kill.py: writing that is killed, at every place where it can be.

    kill_program.py FOLDER

A child writes a snapshot and the best of a head in place of older ones; it is killed at its nth
operation on files, for every n, and at random moments. After each kill the folder is looked at and
put in order as a run that is continued does, by a child that is killed in the same way. What was
found goes to stdout as JSON, a list of [where it was killed, step found, value of the best head].
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from gfm_models import checkpoint
from gfm_models.backbone import BackboneConfig
from gfm_models.heads import HeadConfig
from gfm_models.potential import build_potential
from gfm_pretrain.durable import recover
from gfm_pretrain.snapshots.best import commit_best, write_weights
from gfm_pretrain.snapshots.options import SnapshotOptions
from gfm_pretrain.snapshots.read import newest_snapshot, read_parts
from gfm_pretrain.snapshots.write import commit_snapshot, write_parts

OLD, NEW = 3, 6
OPERATIONS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link")
SMALL, LARGE = 3, 200_000
N_AT_RANDOM = 12
LONGEST = 0.03
"""Seconds until a kill at random."""
BACKBONE = BackboneConfig(channels=2, cutoff=3.0, n_radial=3, radial_hidden=(4,))
HEAD = HeadConfig(level_of_theory="x", reference_energies={"H": 0.0}, scales={"H": 1.0}, width=3)


def write_all(run: Path, step: int, size: int) -> None:
    parts = {name: {"w": torch.full((size,), float(step))} for name in ("backbone", "heads/a")}
    files = write_parts(run, step, parts)
    options = SnapshotOptions(keep_last=1)
    commit_snapshot(run, step, files=files, facts={}, options=options)
    potential = build_potential(BACKBONE, {"a": HEAD})
    with torch.no_grad():
        for parameter in potential.parameters():
            parameter.fill_(float(step))
    backbone, head = (dict(m.named_parameters()) for m in (potential.backbone, potential.head("a")))
    write_weights(run, ["a"], backbone=backbone, mine={"a": head})
    training = {"best": {"step": step}}
    commit_best(run, backbone=BACKBONE, heads={"a": HEAD}, training={"a": training})


def put_in_order(run: Path) -> None:
    for parent in (run, run / "snapshots", run / "best"):
        recover(parent)


def killed(work: Callable[[], None], run: Path, *, at: int) -> str | None:
    """Where a child that does `work` was killed, before operation `at`; None if never."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        _do_until(work, run, at=at, tell=tell)
    os.close(tell)
    with os.fdopen(told) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return said
    assert status == 0, "the child failed by itself"
    return None


def _do_until(work: Callable[[], None], run: Path, *, at: int, tell: int) -> None:
    n_left = at

    def count(event: str, args: tuple) -> None:
        nonlocal n_left
        # What is removed with its folder is named relative to it; files are also read elsewhere.
        if event in OPERATIONS and (event != "open" or str(args[0]).startswith(str(run))):
            n_left -= 1
            if n_left == 0:
                os.write(tell, f"{event} {args[0]}".encode())
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    try:
        work()
    except BaseException:
        os._exit(1)
    os._exit(0)


def killed_at_random(work: Callable[[], None], seconds: float) -> None:
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def look(run: Path) -> tuple[int, float]:
    """The step of the snapshot and of the best head that are there, both verified."""
    snapshot = newest_snapshot(run)
    assert snapshot is not None
    assert not snapshot.damaged, snapshot.damaged
    for tensors in read_parts(snapshot.folder, {"heads/a": "heads/a"}).values():
        assert (tensors["w"] == snapshot.step).all()
    best = run / "best" / "a"
    checkpoint.verify(best)
    step = checkpoint.read_training(best)["best"]["step"]
    assert all((p == step).all() for p in checkpoint.load(best).parameters())
    return snapshot.step, step


def put_in_order_with_kills(run: Path) -> None:
    """As often as the child that does it is killed, a little later each time."""
    at = 1
    while killed(lambda: put_in_order(run), run, at=at) is not None:
        at += 1


def main() -> int:
    torch.set_num_threads(1)  # a forked child would wait forever for threads that it does not have
    folder = Path(sys.argv[1]).resolve()
    before = folder / "before"
    write_all(before, OLD, SMALL)
    found, at, where = [], 0, ""
    while where is not None:
        at += 1
        run = Path(shutil.copytree(before, folder / f"run-{at}"))
        where = killed(lambda run=run: write_all(run, NEW, SMALL), run, at=at)
        put_in_order_with_kills(run)
        found.append([where, *look(run)])
    rng = random.Random(0)
    for n in range(N_AT_RANDOM):
        run = Path(shutil.copytree(before, folder / f"random-{n}"))
        killed_at_random(lambda run=run: write_all(run, NEW, LARGE), LONGEST * rng.random())
        put_in_order(run)
        found.append(["at random", *look(run)])
    sys.stdout.write(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
