"""The learning rate as a function of how far the run has come."""

import math

from gfm_pretrain.training_options import TrainingOptions


def progress(
    step: int, elapsed_seconds: float, *, total_steps: int, max_minutes: float | None
) -> float:
    """How far the run has come, 0 to 1: by steps, or by time where that is limited and ahead."""
    by_steps = step / total_steps
    if max_minutes is None:
        return by_steps
    return min(1.0, max(by_steps, elapsed_seconds / (60 * max_minutes)))


def learning_rate(step: int, done: float, options: TrainingOptions) -> float:
    """Linear rise over the warm-up, times a cosine from the largest to the final rate."""
    rise = min(1.0, (step + 1) / (options.warmup_steps + 1))
    span = options.learning_rate - options.final_learning_rate
    return rise * (options.final_learning_rate + span * 0.5 * (1 + math.cos(math.pi * done)))
