"""The folder of a run: what it was asked to do, and whether a new request continues it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gfm_pretrain.config import RunConfig
from gfm_pretrain.configuration import to_mapping
from gfm_pretrain.monitor.metrics_file import METRICS_FILE
from gfm_pretrain.process import World, broadcast_object

CONFIG_FILE = "config.yaml"

MAY_CHANGE = ("run", "device", "stage", "training", "guard", "faults", "monitor")
"""What may differ when a run is continued; everything else would make it another run."""


def open_run(config: RunConfig, world: World) -> Path:
    """Make the run's folder, or check that it holds the same run. Call on every rank.

    Raises:
        ValueError: the folder holds something else, or a run that differs; the same on every rank.
    """
    run = Path(config.run)
    problem = broadcast_object(world, _open(run, config) if world.rank == 0 else None)
    if problem is not None:
        raise ValueError(problem)
    return run


def _open(run: Path, config: RunConfig) -> str | None:
    """Prepare the folder on rank 0; what is wrong with it, or None."""
    try:
        problem = _problem(run, config)
        if problem is None:
            run.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump(to_mapping(config), sort_keys=False, allow_unicode=True)
            (run / f"{CONFIG_FILE}.unfinished").write_text(text, encoding="utf-8")
            (run / f"{CONFIG_FILE}.unfinished").replace(run / CONFIG_FILE)
    except OSError as error:
        return f"cannot write the folder of the run, {run}: {error.strerror}"
    return problem


def _problem(run: Path, config: RunConfig) -> str | None:
    if not run.exists() or (run.is_dir() and not any(run.iterdir())):
        return None
    if not (run / CONFIG_FILE).is_file():
        return f"{run} exists and holds no run; choose another folder with run=FOLDER"
    old = yaml.safe_load((run / CONFIG_FILE).read_text(encoding="utf-8"))
    changed = sorted(_differences(old, to_mapping(config)))
    if changed and (run / METRICS_FILE).exists():  # without metrics nothing was computed
        return (
            f"{run} holds a run with other settings ({', '.join(changed)}); choose another folder "
            "with run=FOLDER, or remove it to start anew"
        )
    return None


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for key in old.keys() | new.keys():
        name = f"{prefix}{key}"
        if name in MAY_CHANGE or old.get(key) == new.get(key):
            continue
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found |= _differences(before, after, prefix=f"{name}.")
        else:
            found.add(name)
    return found
