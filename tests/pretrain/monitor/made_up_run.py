"""A run that nobody computed: facts, steps and records for those who show them."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from gfm_pretrain.data.deal import Deal, first_deals
from gfm_pretrain.data.feed import Size
from gfm_pretrain.monitor.largest import Largest
from gfm_pretrain.monitor.metrics_file import METRICS_FILE, as_line
from gfm_pretrain.monitor.rates import RateWindow
from gfm_pretrain.monitor.records import (
    HeadFacts,
    RunFacts,
    evaluation_record,
    rates_record,
    run_record,
    train_record,
)
from gfm_pretrain.monitor.state import RunState
from gfm_pretrain.process import World
from gfm_pretrain.step_result import StepResult

SECONDS = {"data": 0.01, "forward": 0.03, "backward": 0.04, "wait": 0.015, "update": 0.005}
"""Of a step that takes a tenth of a second."""


def made_up_world(*, rank: int = 0, size: int = 1) -> World:
    return World(
        rank=rank,
        size=size,
        local_rank=rank,
        local_size=size,
        launcher="single",
        device=torch.device("cpu"),
    )


def made_up_facts(*heads: str, total_steps: int = 5, max_minutes: float | None = None) -> RunFacts:
    head = HeadFacts(
        structures=40, per_step=Fraction(4), weight=1.0, ranks=1, level_of_theory="PBE"
    )
    return RunFacts(
        heads=dict.fromkeys(heads or ("a", "b"), head),
        total_steps=total_steps,
        max_minutes=max_minutes,
        cost={},
        settings={"run": "run", "seed": 1},
    )


def made_up_step(step: int, losses: Mapping[str, float]) -> StepResult:
    return StepResult(
        step=step,
        losses=losses,
        gradient_norm=1.5,
        learning_rate=0.01,
        sizes={head: Size(structures=4, atoms=40, edges=400) for head in losses},
        balance=0.9,
        seconds=SECONDS,
        bytes_sent=2000.0,
        stop=False,
    )


def made_up_records(
    *heads: str, n_steps: int = 3, total_steps: int = 5, ranks: int = 1
) -> list[dict[str, Any]]:
    """Of a run of steps that take a tenth of a second, up to the report after the last one."""
    facts = made_up_facts(*heads, total_steps=total_steps)
    world = made_up_world(size=ranks)
    errors = {"energy_mae_per_atom": 0.0123, "forces_mae": 0.0456, "stress_mae": 0.00789}
    records = [run_record(facts, world, step=0, run_id="0123abcd")]
    records.append(evaluation_record("before", 0, dict.fromkeys(facts.heads, errors)))
    window = RateWindow(clock=0.0, wall=0.0)
    for step in range(1, n_steps + 1):
        result = made_up_step(step, dict.fromkeys(facts.heads, 1.0 / step))
        done, clock = step / total_steps, 0.1 * step
        records.append(train_record(result, facts, seconds=clock, done=done))
        window.add(result, own_activities=SECONDS, clock=clock, wall=clock)
    largest = {
        "time/wait": Largest(value=400_000, rank=ranks - 1),
        "memory/resident": Largest(value=1_230_000_000, rank=0),
    }
    records.append(
        rates_record(
            window.rates(),
            epochs=dict.fromkeys(facts.heads, 4 * n_steps / 40),
            step=n_steps,
            seconds=0.1 * n_steps,
            seconds_left=4000.0,
            largest=largest,
        )
    )
    return records


def made_up_state(*heads: str, **options: Any) -> RunState:
    state = RunState()
    for record in made_up_records(*heads, **options):
        state.add(record)
    return state


def write_metrics(run: Path, records: Iterable[Mapping[str, Any]]) -> Path:
    run.mkdir(exist_ok=True)
    (run / METRICS_FILE).write_bytes(b"".join(map(as_line, records)))
    return run


def made_up_deals(*heads: str) -> dict[str, Deal]:
    return first_deals(dict.fromkeys(heads or ("a", "b"), Fraction(4)))
