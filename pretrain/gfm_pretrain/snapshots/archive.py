"""What a run keeps of itself while it goes on: snapshots, and the best weights of each head."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gfm_pretrain.evaluate import Metrics
from gfm_pretrain.guard import TrainingError
from gfm_pretrain.preemption import LeftEarlyError
from gfm_pretrain.process import broadcast_object
from gfm_pretrain.publish import training_facts
from gfm_pretrain.run_folder import RunFolder
from gfm_pretrain.snapshots.background import Background, Job, Notes
from gfm_pretrain.snapshots.best import NONE, commit_best, improved, read_best, write_weights
from gfm_pretrain.snapshots.host_copy import HostCopy
from gfm_pretrain.snapshots.layout import BACKBONE, head_of, head_part
from gfm_pretrain.snapshots.policy import is_due
from gfm_pretrain.snapshots.write import commit_snapshot, write_parts
from gfm_pretrain.trainer import Trainer

OF_ALL_RANKS = (LeftEarlyError, TrainingError)
"""Errors that every rank has at the same place."""

log = logging.getLogger("gfm_pretrain")


class Archive:
    """Writes beside the training. All methods but `is_ready` are called on every rank.

    Args:
        trainer: The run.
        run: Its folder, seen by all ranks.
        facts: Plain values that go into every snapshot, beside those of the trainer.
    """

    def __init__(self, trainer: Trainer, run: RunFolder, *, facts: Mapping[str, Any]) -> None:
        self.trainer = trainer
        self.run = run
        self.facts = facts
        self.options = trainer.config.snapshots
        self._background = Background(trainer.world)
        self._copy = HostCopy()
        self._last = (trainer.step, trainer.seconds)
        self._best = _best_so_far(trainer, run.path)

    @property
    def is_ready(self) -> bool:
        """Whether this rank has written its part; when all have, `settle` is called."""
        return self._background.is_ready

    def settle(self) -> None:
        """Commit what all ranks have written.

        Raises:
            WritingError: some rank could not write.
        """
        self._background.settle()

    def is_due(self) -> bool:
        """Whether a snapshot is due after this step."""
        trainer = self.trainer
        return is_due(
            trainer.step, trainer.seconds, last_seconds=self._last[1], options=self.options
        )

    def take_snapshot(self) -> None:
        """Begin a snapshot of the state as it is now, unless there is one of this step.

        Raises:
            WritingError: what was begun before could not be written.
        """
        trainer, run = self.trainer, self.run.path
        step = trainer.step
        if self._last[0] == step:
            return
        self._last = (step, trainer.seconds)
        start = time.perf_counter()
        self._background.finish()  # before its copies are overwritten
        parts = trainer.weights.state(self._copy)
        facts = {**trainer.facts(), **self.facts}
        self._copy.wait()

        def write() -> Notes:
            return write_parts(run, step, parts)

        def commit(files: Notes) -> None:
            self.run.check_lock()
            commit_snapshot(run, step, files=files, facts=facts, options=self.options)
            took = time.perf_counter() - start
            log.info("snapshot of step %d: training waited %.3f of %.3f s", step, blocked, took)

        blocked = time.perf_counter() - start
        self._begin(Job(name=f"the snapshot of step {step}", write=write, commit=commit))

    def keep_best(self, errors: Mapping[str, Metrics]) -> None:
        """Begin to write the heads that are better than ever.

        Args:
            errors: Of the averaged weights as they are now, on the validation sets.

        Raises:
            WritingError: what was begun before could not be written.
        """
        better = (
            {} if self.options.best == NONE else improved(errors, self.options.best, self._best)
        )
        if not better:
            return
        self._best |= better
        self._background.finish()
        trainer, run = self.trainer, self.run.path
        parts = trainer.weights.averages([BACKBONE, *map(head_part, better)], self._copy)
        self._copy.wait()
        facts = {
            head: self._best_facts(head, value, errors[head]) for head, value in better.items()
        }
        configs = {head: trainer.setup.summaries[head].config for head in better}

        def write() -> Notes:
            heads = {head: weights for part, weights in parts.items() if (head := head_of(part))}
            write_weights(run, list(better), backbone=parts.get(BACKBONE), mine=heads)
            return {}

        def commit(_: Notes) -> None:
            self.run.check_lock()
            architecture = trainer.potential.backbone.config
            commit_best(run, backbone=architecture, heads=configs, training=facts)

        name = f"the best weights of {', '.join(better)} at step {trainer.step}"
        self._begin(Job(name=name, write=write, commit=commit))

    def finish(self) -> None:
        """Wait until what was begun is on the disk.

        Raises:
            WritingError: some rank could not write.
        """
        self._background.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for what was begun: of all ranks, unless an error may be of this rank alone."""
        if kind in (None, *OF_ALL_RANKS):
            self._background.finish()
        self._background.close()

    def _begin(self, job: Job) -> None:
        self._background.start(job)
        if not self.options.background:
            self._background.finish()

    def _best_facts(self, head: str, value: float, errors: Metrics) -> dict[str, Any]:
        chosen = {
            "head": head,
            "metric": self.options.best,
            "value": value,
            "step": self.trainer.step,
        }
        return training_facts(self.trainer, {"valid": {head: errors}}, [head]) | {"best": chosen}


def _best_so_far(trainer: Trainer, run: Path) -> dict[str, float]:
    files = {name: summary.files for name, summary in trainer.setup.summaries.items()}
    valid = {
        name: of_head["valid"]["sha256"] for name, of_head in files.items() if "valid" in of_head
    }
    world = trainer.world
    mine = read_best(run, trainer.config.snapshots.best, valid) if world.rank == 0 else None
    return broadcast_object(world, mine)
