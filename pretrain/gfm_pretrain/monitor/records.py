"""What is recorded of a run: plain values, of which everything that shows a run is made.

`docs/watching.md` describes the keys; they are part of the interface.
"""

import platform
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from fractions import Fraction
from importlib.metadata import version
from typing import Any

import torch

from gfm_pretrain.config import RunConfig
from gfm_pretrain.configuration import to_mapping
from gfm_pretrain.monitor.largest import Largest
from gfm_pretrain.monitor.rates import Rates
from gfm_pretrain.process import World
from gfm_pretrain.setup import Setup
from gfm_pretrain.step_result import StepResult


@dataclass(frozen=True, kw_only=True)
class HeadFacts:
    """What a head of the run is, for those who watch it."""

    structures: int
    """In its training set."""
    per_step: Fraction
    """Structures in a step, on average."""
    weight: float
    """In the loss."""
    ranks: int
    """How many own it."""
    level_of_theory: str
    """Of its labels."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a run is, for those who watch it; the same on every rank."""

    heads: Mapping[str, HeadFacts]
    """In the order of the run."""
    total_steps: int
    """Of the whole run."""
    max_minutes: float | None
    """Training time after which it ends."""
    cost: Mapping[str, Any]
    """Of a step: what structures are dealt by, and what was measured, if it was."""
    settings: Mapping[str, Any]
    """The configuration with all defaults, as plain values."""


def run_facts(config: RunConfig, setup: Setup) -> RunFacts:
    """Gather what is known of a run before its first step."""
    heads = {
        name: HeadFacts(
            structures=len(summary.indices["train"]),
            per_step=setup.batch_sizes[name],
            weight=config.heads[name].weight,
            ranks=len(setup.owners[name]),
            level_of_theory=summary.config.level_of_theory,
        )
        for name, summary in setup.summaries.items()
    }
    return RunFacts(
        heads=heads,
        total_steps=setup.total_steps,
        max_minutes=config.training.max_minutes,
        cost={
            "used": asdict(setup.cost),
            "measured": None if setup.measured is None else asdict(setup.measured),
        },
        settings=to_mapping(config),
    )


def run_record(facts: RunFacts, world: World, *, step: int, run_id: str) -> dict[str, Any]:
    """The line at each start and resume."""
    return {
        "kind": "run",
        "step": step,
        "time": now(),
        "id": run_id,
        "ranks": world.size,
        "launcher": world.launcher,
        "device": world.device.type,
        "host": socket.gethostname(),
        "threads": torch.get_num_threads(),
        "versions": {
            "gfmcalc": version("gfmcalc"),
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
        "total_steps": facts.total_steps,
        "heads": {
            name: {
                "structures": head.structures,
                "per_step": float(head.per_step),
                "weight": head.weight,
                "ranks": head.ranks,
                "level_of_theory": head.level_of_theory,
            }
            for name, head in facts.heads.items()
        },
        "cost": facts.cost,
        "settings": facts.settings,
    }


def train_record(
    result: StepResult, facts: RunFacts, *, seconds: float, done: float
) -> dict[str, Any]:
    """The line of each step: training seconds, how far the run is (0 to 1), losses."""
    return {
        "kind": "train",
        "step": result.step,
        "seconds": seconds,
        "done": done,
        "loss": sum(facts.heads[head].weight * loss for head, loss in result.losses.items()),
        "losses": dict(result.losses),
        "skipped": bool(result.troubles),
        "gradient_norm": result.gradient_norm,
        "learning_rate": result.learning_rate,
    }


def rates_record(
    rates: Rates,
    *,
    epochs: Mapping[str, float],
    step: int,
    seconds: float,
    seconds_left: float,
    largest: Mapping[str, Largest],
) -> dict[str, Any]:
    """The line of each report.

    Args:
        rates: Over the last steps.
        epochs: How often the training set of each head was gone through.
        step: Steps that are done.
        seconds: Of training.
        seconds_left: On the wall.
        largest: Over ranks: `time/<activity>` in millionths, `memory/<kind>` in bytes.
    """
    units = ("structures", "atoms", "edges")
    time = {name.removeprefix("time/"): v for name, v in largest.items() if name[:5] == "time/"}
    memory = {name.removeprefix("memory/"): v for name, v in largest.items() if "memory/" in name}
    return {
        "kind": "rates",
        "step": step,
        "time": now(),
        "seconds": seconds,
        "seconds_left": seconds_left,
        "window": {"steps": rates.steps, "seconds": rates.seconds, "paused": rates.paused},
        "per_second": {unit: sum(head[unit] for head in rates.heads.values()) for unit in units},
        "heads": {
            name: {**per_second, "epochs": epochs[name]} for name, per_second in rates.heads.items()
        },
        "time_mean": dict(rates.time),
        "time_max": {
            name: {"part": most.value / 1e6, "rank": most.rank} for name, most in time.items()
        },
        "memory_max": {
            name: {"bytes": most.value, "rank": most.rank} for name, most in memory.items()
        },
        "balance": rates.balance,
        "bytes_per_step": rates.bytes_per_step,
    }


def evaluation_record(
    kind: str, step: int, errors: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """The line of an evaluation: `before`, `valid` or `test`."""
    return {"kind": kind, "step": step, "heads": {name: dict(of) for name, of in errors.items()}}


def event_record(event: str, step: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The line of something that happens now and then."""
    return {"kind": "event", "step": step, "time": now(), "event": event, **facts}


def now() -> str:
    """Date and time, UTC, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
