"""A run at a glance, for those who look at it from outside."""

from datetime import UTC, datetime
from pathlib import Path

from gfm_pretrain.monitor.state import RunState
from gfm_pretrain.monitor.wording import duration

SILENCE = 120.0
"""Seconds without a line after which it is said that the run may not be running."""


def overview(
    state: RunState, run: Path, *, snapshot: int | None, last_written: float, now: float
) -> str:
    """What the run is, and whether it is running.

    Args:
        state: By its metrics.
        run: Its folder.
        snapshot: Step of its last snapshot.
        last_written: When its metrics were last written, seconds since 1970.
        now: The same clock now.
    """
    facts = state.run
    if not facts:
        return f"{run}: nothing was computed yet"
    times = len(state.starts) - 1
    continued = f", continued {times} time{'s' if times > 1 else ''}" if times else ""
    ranks = f"{facts['ranks']} rank{'s' if facts['ranks'] > 1 else ''}"
    saved = "no snapshot yet" if snapshot is None else f"snapshot at step {snapshot}"
    return (
        f"{run}: {_status(state, now - last_written)}; {saved}\n"
        f"since {facts['time']} on {ranks} ({facts['launcher']}, {facts['device']}, "
        f"{facts['host']}){continued}"
    )


def _status(state: RunState, silent: float) -> str:
    ended = state.ended
    if ended is None:
        seen = f"last line {duration(silent)} ago"
        return f"running, {seen}" if silent < SILENCE else f"{seen}; it may have been killed"
    when = datetime.fromisoformat(ended["time"]).astimezone(UTC).isoformat(" ", "seconds")
    reason = f": {ended['reason']}" if "reason" in ended else ""
    return f"{ended['event']} at step {ended['step']}, {when}{reason}"
