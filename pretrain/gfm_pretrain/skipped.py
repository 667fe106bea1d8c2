"""What is told of a step that was skipped, and the end of a run that skips too many."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gfm_pretrain.culprits import Culprit
from gfm_pretrain.guard import Guard, TrainingError, Trouble
from gfm_pretrain.monitor.monitor import Monitor
from gfm_pretrain.step_result import StepResult

SKIPPED_FILE = "skipped.jsonl"
"""In the folder of the run: one line for each step that was skipped, with its structures."""
MOST_SAID = 3
"""Structures named in a message; the file has more."""


def tell_skipped(result: StepResult, run: Path, monitor: Monitor) -> None:
    """Say and record that a step was skipped."""
    troubles = [_plain(asdict(trouble)) for trouble in result.troubles]
    monitor.event("skipped", result.step, troubles=troubles)
    monitor.say(f"step {result.step} skipped: {_why(result)}")
    line = {"step": result.step, "troubles": troubles}
    line["structures"] = [asdict(culprit) for culprit in result.culprits]
    if monitor.speaks:
        try:
            with (run / SKIPPED_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:  # as for other records: training does not depend on it
            monitor.say(f"cannot write {run / SKIPPED_FILE}: {error.strerror}; training goes on")


def stop_if_too_many(guard: Guard, result: StepResult, run: Path) -> None:
    """End a run that skips more steps than it may. Call on every rank.

    Raises:
        TrainingError: naming head and structures; the same on every rank.
    """
    too_many = guard.check(result.step - 1)
    if too_many is not None:
        raise TrainingError(
            f"{too_many}; at step {result.step} {_why(result)}; look for absurd labels there "
            f"({run / SKIPPED_FILE}), lower training.learning_rate, or see the options of guard"
        )


def _why(result: StepResult) -> str:
    """Such as `the loss of rmd17 was not finite (structures a.extxyz#3, a.extxyz#7)`."""
    return f"{describe(result.troubles)} ({_structures(result.culprits)})"


def describe(troubles: Sequence[Trouble]) -> str:
    """All troubles of a step, such as `the loss of a, b was not finite`."""
    spikes = [
        f"the loss of {trouble.head} was {trouble.value:.3g}, usual are {trouble.usual:.3g}"
        for trouble in troubles
        if trouble.what == "spike"
    ]
    heads = ", ".join(trouble.head for trouble in troubles if trouble.what != "spike")
    others = [f"the {troubles[0].what} of {heads} was not finite"] if heads else []
    return "; ".join([*others, *spikes])


def _structures(culprits: Sequence[Culprit]) -> str:
    named = ", ".join(culprit.identifier for culprit in culprits[:MOST_SAID])
    more = ", …" if len(culprits) > MOST_SAID else ""
    return f"structures, the worst first: {named}{more}"


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no word for what is not finite: it is written as `nan`, `inf` or `-inf`."""
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }
