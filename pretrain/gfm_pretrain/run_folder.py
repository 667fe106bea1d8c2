"""The folder of a run: whose it is, and whether a new request continues what is there."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from gfm_pretrain.config import RunConfig
from gfm_pretrain.configuration import to_mapping
from gfm_pretrain.durable import UNFINISHED, recover
from gfm_pretrain.monitor.metrics_file import METRICS_FILE
from gfm_pretrain.process import World, broadcast_object, gather_objects
from gfm_pretrain.run_lock import LOCK_FILE, RunLock
from gfm_pretrain.snapshots.continuation import Continuation, continue_from
from gfm_pretrain.snapshots.differences import REFUSED, changed_settings
from gfm_pretrain.snapshots.layout import BEST, REMOVED, SNAPSHOTS
from gfm_pretrain.snapshots.read import newest_snapshot
from gfm_pretrain.snapshots.removed import keep_removed

CONFIG_FILE = "config.yaml"
_SEEN_SECONDS = 30.0
"""After which every node should see what was written on another: network file systems remember for
some time that a file was not there."""
_OF_A_START = (LOCK_FILE, f"{CONFIG_FILE}{UNFINISHED}")
"""What a run leaves that was killed at once."""


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """The folder of a run, which no other run writes in meanwhile."""

    path: Path
    """The folder."""
    continuation: Continuation | None
    """What the run goes on from; None if it begins."""
    remarks: tuple[str, ...]
    """What the user should know of it."""
    lock: RunLock | None
    """On rank 0."""

    def check_lock(self) -> None:
        """Make sure that nobody has taken the folder over.

        Raises:
            OSError: somebody has.
        """
        if self.lock is not None:
            self.lock.check()


@contextmanager
def open_run(config: RunConfig, world: World) -> Iterator[RunFolder]:
    """Make the run's folder, or find what is to be continued there. Call on every rank.

    Raises:
        ValueError: another run is at work in the folder; it holds something else, or a run that
            cannot be continued as is asked for. The same on every rank.
    """
    with ExitStack() as held:
        run, problem = None, None
        if world.rank == 0:
            try:
                run = _open(Path(config.run), config, held)
            except OSError as error:
                problem = f"cannot write the folder of the run, {config.run}: {error.strerror}"
            except ValueError as error:
                problem = str(error)
        found = run and (run.continuation, run.remarks)
        problem, found = broadcast_object(world, (problem, found))
        if problem is not None:
            raise ValueError(problem)
        _check_everywhere(Path(config.run), world)
        yield run or RunFolder(
            path=Path(config.run), continuation=found[0], remarks=found[1], lock=None
        )


def _open(path: Path, config: RunConfig, held: ExitStack) -> RunFolder:
    """Take the folder on rank 0, and find out what is in it."""
    _check_is_run(path)
    path.mkdir(parents=True, exist_ok=True)
    lock = held.enter_context(RunLock(path))
    for parent in (path, path / SNAPSHOTS, path / BEST, path / REMOVED):
        recover(parent)
    snapshot = newest_snapshot(path)
    if snapshot is None:
        _check_settings(path, config)
    continuation = None if snapshot is None else continue_from(snapshot, config)
    kept = None if continuation is None else keep_removed(path, continuation)
    _write_config(path, config)
    return RunFolder(
        path=path,
        continuation=continuation,
        remarks=_remarks(lock, continuation, kept),
        lock=lock,
    )


def _check_everywhere(path: Path, world: World) -> None:
    """Make sure that it is one folder that all ranks can write in, before anything is computed.

    Raises:
        ValueError: it is not; the same on every rank.
    """
    problems = gather_objects(world, _problem_here(path))
    wrong = [(rank, problem) for rank, problem in enumerate(problems) if problem is not None]
    if wrong:
        rank, problem = wrong[0]
        raise ValueError(
            f"the folder of the run, {path}, {problem} on rank {rank} of {world.size}; "
            "choose one that all nodes share and may write in, with run=FOLDER"
        )


def _problem_here(path: Path) -> str | None:
    end = time.monotonic() + _SEEN_SECONDS
    while not (path / CONFIG_FILE).is_file():  # other nodes may see it later
        if time.monotonic() > end:
            return "is not there, or another one,"
        time.sleep(0.5)
    return None if os.access(path, os.W_OK) else "cannot be written"


def _check_is_run(path: Path) -> None:
    if not path.exists() or (path / CONFIG_FILE).is_file():
        return
    if not path.is_dir() or any(f.name not in _OF_A_START for f in path.iterdir()):
        raise ValueError(f"{path} exists and holds no run; choose another folder with run=FOLDER")


def _check_settings(path: Path, config: RunConfig) -> None:
    """Refuse to begin another run where one has computed something and left no snapshot."""
    if not (path / METRICS_FILE).exists():
        return
    old = yaml.safe_load((path / CONFIG_FILE).read_text(encoding="utf-8"))
    differences = changed_settings(old, to_mapping(config))
    changed = [str(d) for d in differences if d.fate == REFUSED]
    heads = set(old["heads"]) ^ set(config.heads)
    changed += [f"heads {', '.join(sorted(heads))}"] if heads else []
    if changed:
        raise ValueError(
            f"{path} holds a run with other settings ({'; '.join(changed)}) and no snapshot yet; "
            "choose another folder with run=FOLDER, or remove it to start anew"
        )


def _write_config(path: Path, config: RunConfig) -> None:
    text = yaml.safe_dump(to_mapping(config), sort_keys=False, allow_unicode=True)
    unfinished = path / f"{CONFIG_FILE}{UNFINISHED}"
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path / CONFIG_FILE)


def _remarks(
    lock: RunLock, continuation: Continuation | None, kept: Path | None
) -> tuple[str, ...]:
    remarks = []
    if not lock.works:
        remarks.append(
            f"{lock.path.parent} is on a file system without locks: take care that no other run "
            "uses it"
        )
    if continuation is not None:
        if damaged := continuation.snapshot.damaged:
            remarks.append(f"passed over damaged snapshots: {'; '.join(damaged)}")
        remarks += [f"different from now on: {change}" for change in continuation.changes]
    if kept is not None:
        remarks.append(f"the heads that leave stay in {kept}")
    return tuple(remarks)
