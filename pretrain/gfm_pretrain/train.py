"""A run from its configuration to its checkpoint: the only training loop there is."""

from dataclasses import asdict
from pathlib import Path

from gfm_pretrain.config import RunConfig
from gfm_pretrain.cost_record import record_cost, recorded_cost
from gfm_pretrain.monitor import Monitor, logging_to
from gfm_pretrain.process import World, broadcast_object
from gfm_pretrain.publish import write_checkpoint
from gfm_pretrain.report import cost_line, error_table, label_table, mixture_table, placement_table
from gfm_pretrain.run_folder import open_run
from gfm_pretrain.setup import set_up
from gfm_pretrain.snapshot import newest_snapshot, read_parts, write_snapshot
from gfm_pretrain.trainer import Trainer

JUDGED = ("test", "valid")
"""The split that errors are reported on: the first that a run has."""


def pretrain(config: RunConfig, world: World) -> Path:
    """Train, continuing from the newest snapshot if there is one. Call on every rank.

    Returns:
        The checkpoint's folder.
    """
    run = open_run(config, world)
    with logging_to(run, speaks=world.rank == 0):
        recorded = recorded_cost(run, world)
        setup = set_up(config, world, measured=recorded)
        trainer = Trainer(config, setup, world)
        monitor = Monitor(run, speaks=world.rank == 0, total_steps=setup.total_steps)
        monitor.say(label_table(setup))
        if setup.measured is not None and setup.measured != recorded:
            record_cost(run, setup.measured, world)
            monitor.record("cost", 0, **asdict(setup.measured), used=asdict(setup.cost))
        monitor.say(cost_line(setup))
        monitor.say(placement_table(setup, world))
        monitor.say(f"what {setup.total_steps} steps are\n{mixture_table(setup)}")
        before = _resume(trainer, run, monitor)
        with monitor.progress(trainer.step):
            _train(trainer, run, monitor, before)
        return _finish(trainer, run, monitor, before)


def _resume(trainer: Trainer, run: Path, monitor: Monitor) -> dict:
    """Restore the newest snapshot; the errors before the first step, kept there or found now."""
    found = newest_snapshot(run) if trainer.world.rank == 0 else None
    found = broadcast_object(trainer.world, found)
    if found is None:
        before = trainer.errors(_judged(trainer))
        monitor.record("before", 0, heads=before)
        return before
    folder, manifest = found
    trainer.restore(read_parts(folder, trainer.parts), manifest)
    monitor.say(f"continuing from step {trainer.step} ({folder})")
    return manifest["before"]


def _train(trainer: Trainer, run: Path, monitor: Monitor, before: dict) -> None:
    options = trainer.config.training
    while trainer.done < 1.0:
        result = trainer.train_step()
        monitor.step(result, done=trainer.done, seconds=trainer.seconds)
        if trainer.step % options.validate_every == 0 and trainer.done < 1.0:
            errors = trainer.errors("valid")
            monitor.record("valid", trainer.step, heads=errors)
            monitor.say(f"step {trainer.step}, validation\n{error_table({'valid': errors})}")
        if trainer.step % options.snapshot_every == 0 or trainer.done >= 1.0:
            write_snapshot(
                run,
                trainer.step,
                parts=trainer.state(),
                facts={**trainer.facts(), "before": before},
                world=trainer.world,
                keep=options.keep_snapshots,
            )


def _finish(trainer: Trainer, run: Path, monitor: Monitor, before: dict) -> Path:
    judged = _judged(trainer)
    after = trainer.errors(judged)
    monitor.record(judged, trainer.step, heads=after)
    folder = write_checkpoint(
        trainer, run, {"valid": trainer.errors("valid"), f"{judged}_before": before, judged: after}
    )
    baseline = {name: s.baseline for name, s in trainer.setup.summaries.items()}
    table = error_table({"before": before, "after": after, "predicting nothing": baseline})
    monitor.say(f"errors on the {judged} sets\n{table}")
    monitor.say(f"what {trainer.step} steps were\n{mixture_table(trainer.setup, trainer.step)}")
    monitor.say(f"checkpoint: {folder}")
    return folder


def _judged(trainer: Trainer) -> str:
    splits = {split for s in trainer.setup.summaries.values() for split in s.indices}
    return next((split for split in JUDGED if split in splits), "valid")
