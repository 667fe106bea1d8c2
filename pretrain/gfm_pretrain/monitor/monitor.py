"""Watching a run: what rank 0 records, says and shows, from what all ranks know of each step."""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from gfm_pretrain.data.deal import Deal
from gfm_pretrain.monitor.head_table import head_table
from gfm_pretrain.monitor.largest import Largest, largest_over_ranks
from gfm_pretrain.monitor.metrics_file import MetricsFile, Record
from gfm_pretrain.monitor.options import MonitorOptions
from gfm_pretrain.monitor.peak_memory import peak_memory
from gfm_pretrain.monitor.rates import Rates, RateWindow
from gfm_pretrain.monitor.records import (
    RunFacts,
    evaluation_record,
    event_record,
    rates_record,
    run_record,
    train_record,
)
from gfm_pretrain.monitor.run_log import log
from gfm_pretrain.monitor.sink import Sink
from gfm_pretrain.monitor.sinks import open_sinks
from gfm_pretrain.monitor.state import RunState
from gfm_pretrain.monitor.status_lines import progress_line
from gfm_pretrain.monitor.terminal import Terminal
from gfm_pretrain.process import World
from gfm_pretrain.step_result import StepResult

SHORTEST = 1.0
"""Seconds between the first reports; the time between them doubles until it is that asked for."""
LINES_PER_TABLE = 20
"""Reports after which the table of heads is printed where it is not drawn all the time."""


class Monitor:
    """What a run tells of itself, on every rank; only rank 0 says, shows and writes anything.

    Use it as a context that encloses the run, so that everything is on the disk at its end.

    Args:
        run: Folder of the run.
        facts: What the run is.
        options: How it is watched.
        world: All ranks.
    """

    def __init__(
        self, run: Path, facts: RunFacts, *, options: MonitorOptions, world: World
    ) -> None:
        self.facts = facts
        self.state = RunState()
        self.speaks = world.rank == 0
        self._run = run
        self._options = options
        self._world = world
        self._terminal = Terminal(speaks=self.speaks)
        self._file = MetricsFile(run, complain=self.say)
        self._sinks: Sequence[Sink] = ()
        self._n_reports = 0
        self._deals: Mapping[str, Deal] = {}
        self._begin_clocks(0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        failed = error is not None and not _is_peaceful(error)
        if failed:
            reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":")
            self.event("failed", self.state.step, reason=reason)
        for sink in self._sinks:
            sink.close(failed=failed)
        self._file.close()

    def begin(self, step: int, *, seconds: float, deals: Mapping[str, Deal]) -> None:
        """Take up the records of a run that goes on from a step, or begins.

        Args:
            step: Steps that are done.
            seconds: Of training that they took.
            deals: How structures are dealt to the steps from here on.

        Raises:
            ValueError: Weights & Biases was asked for and refuses.
        """
        self._begin_clocks(seconds)
        self._deals = deals
        if not self.speaks:
            return
        self._file.rewind(step, visit=self.state.add)
        run_id = self.state.run.get("id") or uuid.uuid4().hex[:8]
        self._sinks = open_sinks(
            self._run,
            self._options,
            step=step,
            run_id=run_id,
            settings=self.facts.settings,
            complain=self.say,
        )
        self._record(run_record(self.facts, self._world, step=step, run_id=run_id))

    def say(self, message: str) -> None:
        """One message to the terminal and the log."""
        log.info(message)
        self._terminal.say(message)

    def evaluation(self, kind: str, step: int, errors: Mapping[str, Mapping[str, float]]) -> None:
        """Record errors of heads: `before` training, `valid` or `test`."""
        self._record(evaluation_record(kind, step, errors))

    def event(self, event: str, step: int, **facts: Any) -> None:
        """Record something that happens now and then."""
        self._record(event_record(event, step, facts))

    def step(
        self,
        result: StepResult,
        *,
        own_activities: Mapping[str, float],
        done: float,
        seconds: float,
    ) -> None:
        """Record a step, and now and then how fast the run is. Call on every rank.

        Args:
            result: Of the step.
            own_activities: Seconds of this rank by activity.
            done: How far the run is, 0 to 1.
            seconds: Of training so far, the same on every rank.
        """
        self._record(train_record(result, self.facts, seconds=seconds, done=done))
        self._window.add(
            result, own_activities=own_activities, clock=seconds, wall=time.monotonic()
        )
        if seconds >= self._next_report or done >= 1.0:
            elapsed = max(SHORTEST, seconds - self._first_clock)
            self._next_report = seconds + min(self._options.every_seconds, elapsed)
            self._report(result.step, seconds=seconds)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Draw how far the run is meanwhile, on a terminal; training begins now."""
        self._begin_clocks(self._first_clock)
        with self._terminal.following(self.state):
            yield

    def _begin_clocks(self, seconds: float) -> None:
        wall = time.monotonic()
        self._first_clock, self._first_wall = seconds, wall
        self._next_report = seconds
        self._window = RateWindow(clock=seconds, wall=wall)

    def _report(self, step: int, *, seconds: float) -> None:
        rates = self._window.rates()
        largest = self._largest(rates)
        self._record(
            rates_record(
                rates,
                epochs={name: self._epochs(name, step) for name in self._deals},
                step=step,
                seconds=seconds,
                seconds_left=self._seconds_left(rates, step, seconds),
                largest=largest,
            )
        )
        if self.speaks:
            self._tell()

    def _largest(self, rates: Rates) -> dict[str, Largest]:
        time_parts = {f"time/{name}": round(1e6 * part) for name, part in rates.own_time.items()}
        memory = {f"memory/{kind}": n for kind, n in peak_memory(self._world.device).items()}
        return largest_over_ranks(self._world, time_parts | memory)

    def _seconds_left(self, rates: Rates, step: int, seconds: float) -> float:
        """On the wall: the training that is left, and pauses as there were since the start."""
        left = (self.facts.total_steps - step) * rates.seconds_per_step
        if self.facts.max_minutes is not None:
            left = min(left, max(0.0, 60 * self.facts.max_minutes - seconds))
        trained = seconds - self._first_clock
        return left * max(1.0, (time.monotonic() - self._first_wall) / max(trained, 1e-9))

    def _epochs(self, head: str, step: int) -> float:
        return self._deals[head].n_dealt(step) / self.facts.heads[head].structures

    def _tell(self) -> None:
        """A line to the log, and to what is not drawn on; now and then the table of heads."""
        self._n_reports += 1
        line = progress_line(self.state)
        if self._n_reports % LINES_PER_TABLE == 0:
            line = f"{line}\n{head_table(self.state)}"
        if self._terminal.is_drawn_on:
            log.info(line)
        else:
            self.say(line)

    def _record(self, record: Record) -> None:
        """Pass a record on; there are none before the run has begun."""
        if not (self.speaks and (self.state.run or record["kind"] == "run")):
            return
        self.state.add(record)
        self._file.append(record)
        for sink in self._sinks:
            sink.write(record)


def _is_peaceful(error: BaseException) -> bool:
    """Whether the run ends as it was asked to."""
    return isinstance(error, SystemExit) and not error.code
