"""A run from its configuration to its checkpoint: the only training loop there is."""

from pathlib import Path

from gfm_pretrain.config import RunConfig
from gfm_pretrain.cost_record import record_cost, recorded_cost
from gfm_pretrain.monitor.monitor import Monitor
from gfm_pretrain.monitor.records import run_facts
from gfm_pretrain.monitor.run_log import logging_to
from gfm_pretrain.monitor.sinks import check_installed
from gfm_pretrain.preemption import LeftEarlyError, Stopped, noting_signals, this_command
from gfm_pretrain.process import World, any_rank, broadcast_object
from gfm_pretrain.publish import write_checkpoint
from gfm_pretrain.report import cost_line, error_table, label_table, mixture_table, placement_table
from gfm_pretrain.run_folder import open_run
from gfm_pretrain.setup import set_up
from gfm_pretrain.skipped import stop_if_too_many, tell_skipped
from gfm_pretrain.snapshot import newest_snapshot, read_parts, write_snapshot
from gfm_pretrain.step_result import StepResult
from gfm_pretrain.trainer import Trainer

JUDGED = ("test", "valid")
"""The split that errors are reported on: the first that a run has."""


def pretrain(config: RunConfig, world: World) -> Path:
    """Train, continuing from the newest snapshot if there is one. Call on every rank.

    Returns:
        The checkpoint's folder.

    Raises:
        Stopped: some rank was asked to stop by a signal, and what was done is saved.
    """
    check_installed(config.monitor)
    run = open_run(config, world)
    with logging_to(run, speaks=world.rank == 0), noting_signals(world.stop):
        recorded = recorded_cost(run, world)
        setup = set_up(config, world, measured=recorded)
        trainer = Trainer(config, setup, world)
        if setup.measured is not None and setup.measured != recorded:
            record_cost(run, setup.measured, world)
        facts = run_facts(config, setup)
        with Monitor(run, facts, options=config.monitor, world=world) as monitor:
            try:
                return _run(trainer, run, monitor)
            except LeftEarlyError:
                monitor.event("stopped", trainer.step)
                monitor.say(_how_to_continue(trainer))
                raise Stopped from None


def _run(trainer: Trainer, run: Path, monitor: Monitor) -> Path:
    setup = trainer.setup
    monitor.say(label_table(setup))
    monitor.say(cost_line(setup))
    monitor.say(placement_table(setup, trainer.world))
    monitor.say(f"what {setup.total_steps} steps are\n{mixture_table(setup)}")
    if any_rank(trainer.world, bool(trainer.world.stop)):
        raise LeftEarlyError
    before = _resume(trainer, run, monitor)
    with monitor.following():
        _train(trainer, run, monitor, before)
    return _finish(trainer, run, monitor, before)


def _resume(trainer: Trainer, run: Path, monitor: Monitor) -> dict:
    """Restore the newest snapshot; the errors before the first step, kept there or found now."""
    found = newest_snapshot(run) if trainer.world.rank == 0 else None
    found = broadcast_object(trainer.world, found)
    if found is None:
        monitor.begin(0, seconds=0.0)
        before = trainer.errors(_judged(trainer))
        monitor.evaluation("before", 0, before)
        return before
    folder, manifest = found
    trainer.restore(read_parts(folder, trainer.parts), manifest)
    monitor.begin(trainer.step, seconds=trainer.seconds)
    monitor.say(f"continuing from step {trainer.step} ({folder})")
    return manifest["before"]


def _train(trainer: Trainer, run: Path, monitor: Monitor, before: dict) -> None:
    """Train to the end.

    Raises:
        LeftEarlyError: some rank was asked to stop; a snapshot of where it was is there.
    """
    options = trainer.config.training
    while trainer.done < 1.0:
        result = trainer.train_step()
        _tell(result, trainer, run, monitor)
        stop = result.stop
        if trainer.step % options.validate_every == 0 and trainer.done < 1.0 and not stop:
            stop = not _validated(trainer, monitor)
        saves = trainer.step % options.snapshot_every == 0 or trainer.done >= 1.0 or stop
        if saves or trainer.step % trainer.config.faults.compare_replicas_every == 0:
            trainer.check_replicas()
        if saves:
            _save(trainer, run, before)
            monitor.event("snapshot", trainer.step)
        if stop:
            raise LeftEarlyError


def _tell(result: StepResult, trainer: Trainer, run: Path, monitor: Monitor) -> None:
    """What a step was; the end of the run if too many were skipped."""
    monitor.step(
        result,
        own_activities=trainer.own_activities,
        done=trainer.done,
        seconds=trainer.seconds,
    )
    if result.troubles:
        tell_skipped(result, run, monitor)
        stop_if_too_many(trainer.guard, result, run)


def _validated(trainer: Trainer, monitor: Monitor) -> bool:
    """Errors on the validation set; False if some rank was asked to stop meanwhile."""
    try:
        errors = trainer.errors("valid")
    except LeftEarlyError:
        return False
    monitor.evaluation("valid", trainer.step, errors)
    monitor.say(f"step {trainer.step}, validation\n{error_table({'valid': errors})}")
    return True


def _save(trainer: Trainer, run: Path, before: dict) -> None:
    """Write a snapshot."""
    write_snapshot(
        run,
        trainer.step,
        parts=trainer.state(),
        facts={**trainer.facts(), "before": before},
        world=trainer.world,
        keep=trainer.config.training.keep_snapshots,
    )


def _how_to_continue(trainer: Trainer) -> str:
    """Where a run was stopped, and the way on."""
    reason = trainer.world.stop.reason or "a signal to another rank"
    done = f"after step {trainer.step} of {trainer.setup.total_steps}, which is saved"
    return (
        f"stopped by {reason} {done if trainer.step else 'before the first step'}; the same "
        f"command continues it: {this_command()}"
    )


def _finish(trainer: Trainer, run: Path, monitor: Monitor, before: dict) -> Path:
    judged = _judged(trainer)
    after = trainer.errors(judged)
    monitor.evaluation(judged, trainer.step, after)
    folder = write_checkpoint(
        trainer, run, {"valid": trainer.errors("valid"), f"{judged}_before": before, judged: after}
    )
    baseline = {name: s.baseline for name, s in trainer.setup.summaries.items()}
    table = error_table({"before": before, "after": after, "predicting nothing": baseline})
    monitor.say(f"errors on the {judged} sets\n{table}")
    monitor.say(f"what {trainer.step} steps were\n{mixture_table(trainer.setup, trainer.step)}")
    monitor.event("finished", trainer.step, checkpoint=str(folder))
    monitor.say(f"checkpoint: {folder}")
    return folder


def _judged(trainer: Trainer) -> str:
    splits = {split for s in trainer.setup.summaries.values() for split in s.indices}
    return next((split for split in JUDGED if split in splits), "valid")
