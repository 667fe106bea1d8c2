"""A run that nobody computed: facts, steps and records for those who show them."""

from collections.abc import Mapping
from fractions import Fraction

import torch
from gfm_pretrain.data.feed import Size
from gfm_pretrain.monitor.records import HeadFacts, RunFacts
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
