"""Where a run stands, in lines of text."""

from gfm_pretrain.monitor.state import RunState
from gfm_pretrain.monitor.wording import duration, number, percent, size

MOST_HEADS = 6
"""Whose losses are listed one by one in a line."""
NOTEWORTHY = 0.05
"""Part of the time by which the largest rank differs from the mean before it is mentioned."""


def progress_line(state: RunState) -> str:
    """Step, time left, speed and losses, in one line."""
    facts = [f"step {state.step}/{state.total_steps}"]
    if "seconds_left" in state.rates:
        facts.append(f"{duration(state.rates['seconds_left'])} left")
        facts.append(f"{number(state.rates['per_second']['structures'])} structures/s")
    return ", ".join([*facts, f"loss: {_losses(state)}"])


def speed_line(state: RunState) -> str:
    """Rates over all heads."""
    rates = state.rates
    if not rates:
        return ""
    steps = rates["window"]["steps"] / rates["window"]["seconds"]
    facts = [
        f"{number(rates['per_second']['atoms'])} atoms/s",
        f"{number(rates['per_second']['edges'])} edges/s",
        f"{number(steps)} steps/s",
    ]
    if state.run["ranks"] > 1:
        facts.append(f"balance {rates['balance']:.2f}")
        facts.append(f"{size(rates['bytes_per_step'])} sent per step and rank")
    return ", ".join(facts)


def time_line(state: RunState) -> str:
    """What training time is spent on: mean over ranks, and the largest where it is far off."""
    rates = state.rates
    if not rates:
        return ""
    parts = [
        f"{name} {percent(part)}{_largest(state, name, part)}"
        for name, part in rates["time_mean"].items()
    ]
    paused = rates["window"]["paused"]
    if paused >= 0.005:
        parts.append(f"besides {percent(paused)} paused")
    return f"time: {', '.join(parts)}"


def model_line(state: RunState) -> str:
    """Memory, gradient and learning rate."""
    facts = [_memory(state, kind) for kind in state.rates.get("memory_max", {})]
    train = state.train
    if train:
        facts.append(f"gradient norm {number(train['gradient_norm'])}")
        facts.append(f"learning rate {train['learning_rate']:.2e}")
    if state.n_skipped:
        facts.append(f"{state.n_skipped} steps skipped")
    return ", ".join(facts)


def judged_line(state: RunState) -> str:
    """Which evaluation the errors are from."""
    if state.judged is None:
        return ""
    kind, step = state.judged
    name = {"before": "before training", "valid": "validation", "test": "test"}[kind]
    return f"errors: mean absolute, {name}" + (f" at step {step}" if step else "")


def _losses(state: RunState) -> str:
    losses = {head: loss for head in state.heads if (loss := state.loss_of(head)) is not None}
    if len(losses) <= MOST_HEADS:
        return " ".join(f"{head} {loss:.3g}" for head, loss in losses.items())
    worst = max(losses, key=losses.__getitem__)
    return f"{number(state.loss)} over {len(losses)} heads, largest {worst} {losses[worst]:.3g}"


def _largest(state: RunState, activity: str, mean: float) -> str:
    most = state.rates["time_max"].get(activity)
    if most is None or state.run["ranks"] == 1 or most["part"] < mean + NOTEWORTHY:
        return ""
    return f" ({percent(most['part'])} on rank {most['rank']})"


def _memory(state: RunState, kind: str) -> str:
    most = state.rates["memory_max"][kind]
    on_rank = f" on rank {most['rank']}" if state.run["ranks"] > 1 else ""
    what = "memory" if kind == "resident" else f"{kind} memory"
    return f"{what} {size(most['bytes'])}{on_rank}"
