"""When a snapshot is due and which are kept: pure functions."""

from collections.abc import Iterable

from gfm_pretrain.snapshots.options import SnapshotOptions


def is_due(step: int, seconds: float, *, last_seconds: float, options: SnapshotOptions) -> bool:
    """Whether a snapshot is taken after a step.

    Args:
        step: Steps that were done.
        seconds: Of training so far, the same on every rank.
        last_seconds: The same when the last snapshot was taken.
        options: Of the run.
    """
    by_steps = options.every_steps is not None and step % options.every_steps == 0
    passed = (seconds - last_seconds) / 60
    return by_steps or (options.every_minutes is not None and passed >= options.every_minutes)


def kept_steps(steps: Iterable[int], options: SnapshotOptions) -> set[int]:
    """Which of the snapshots after `steps` are kept: the newest ones and the milestones.

    To ask after every snapshot or once for all keeps the same ones.
    """
    ordered = sorted(set(steps))
    return {*ordered[-options.keep_last :], *_milestones(ordered, options.keep_every_steps)}


def _milestones(ordered: list[int], every: int | None) -> set[int]:
    """The first at or after each multiple of `every`."""
    if every is None:
        return set()
    first: dict[int, int] = {}
    for step in ordered:
        first.setdefault(step // every, step)
    return {step for multiple, step in first.items() if multiple > 0}
