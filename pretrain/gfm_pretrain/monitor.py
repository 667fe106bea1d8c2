"""Watching a run: a log for people, metrics as JSON lines for programs, progress with time left."""

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gfm_pretrain.step_result import StepResult

METRICS_FILE = "metrics.jsonl"
LOG_FILE = "log.txt"
SECONDS_BETWEEN_LINES = 15.0
"""How often progress is printed where there is no terminal to draw a bar on."""

log = logging.getLogger("gfm_pretrain")


class Monitor:
    """What rank 0 tells of a run; on other ranks it says nothing."""

    def __init__(self, run: Path, *, speaks: bool, total_steps: int) -> None:
        self.speaks = speaks
        self.console = Console(stderr=True, quiet=not speaks)
        self._metrics = run / METRICS_FILE
        self._total = total_steps
        self._bar: Progress | None = None
        self._last_line = 0.0

    def say(self, message: str) -> None:
        """One message to the terminal and the log."""
        log.info(message)
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)

    def record(self, kind: str, step: int, **values: Any) -> None:
        """One line of metrics: what it is, the step, and numbers."""
        if self.speaks:
            line = json.dumps({"kind": kind, "step": step, **values})
            with self._metrics.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def step(self, result: StepResult, *, done: float, seconds: float) -> None:
        """Record a step, and draw or print how far the run is."""
        self.record("train", result.step, seconds=seconds, losses=dict(result.losses))
        text = " ".join(f"{head} {loss:.3g}" for head, loss in result.losses.items())
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=result.step, losses=text)
        elif self._is_due(result.step):
            left = seconds * (1 - done) / done if done else float("nan")
            self.say(f"step {result.step}/{self._total}, {_duration(left)} left, loss: {text}")

    def _is_due(self, step: int) -> bool:
        """Whether a line is printed where there is no terminal."""
        now = time.monotonic()
        if now - self._last_line <= SECONDS_BETWEEN_LINES and step != self._total:
            return False
        self._last_line = now
        return True

    @contextmanager
    def progress(self, start: int) -> Iterator[None]:
        """Draw a bar meanwhile, on a terminal."""
        if not (self.speaks and sys.stderr.isatty()):
            yield
            return
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("loss: {task.fields[losses]}"),
        )
        with Progress(*columns, console=self.console) as self._bar:
            self._bar.add_task("training", total=self._total, completed=start, losses="")
            yield
        self._bar = None


@contextmanager
def logging_to(run: Path, *, speaks: bool) -> Iterator[None]:
    """Write the log of rank 0 into the run's folder meanwhile."""
    handler = (
        logging.FileHandler(run / LOG_FILE, encoding="utf-8") if speaks else logging.NullHandler()
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


def _duration(seconds: float) -> str:
    if seconds != seconds:
        return "unknown time"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
