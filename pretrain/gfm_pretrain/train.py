"""A run from its configuration to its checkpoint: the only training loop there is."""

from pathlib import Path

from gfm_pretrain.config import RunConfig
from gfm_pretrain.cost import StepCost
from gfm_pretrain.cost_record import record_cost, recorded_cost
from gfm_pretrain.evaluate import Metrics
from gfm_pretrain.monitor.monitor import Monitor
from gfm_pretrain.monitor.records import run_facts
from gfm_pretrain.monitor.run_log import logging_to
from gfm_pretrain.monitor.sinks import check_installed
from gfm_pretrain.preemption import LeftEarlyError, Stopped, noting_signals, this_command
from gfm_pretrain.process import World, any_rank, gather_objects
from gfm_pretrain.publish import write_checkpoint
from gfm_pretrain.readout_fit import fit_readouts, fit_table
from gfm_pretrain.report import cost_line, error_table, label_table, mixture_table, placement_table
from gfm_pretrain.run_folder import RunFolder, open_run
from gfm_pretrain.setup import set_up
from gfm_pretrain.skipped import stop_if_too_many, tell_skipped
from gfm_pretrain.snapshots.archive import Archive
from gfm_pretrain.snapshots.continuation import Continuation
from gfm_pretrain.snapshots.read import read_parts
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
    with (
        open_run(config, world) as run,
        logging_to(run.path, speaks=world.rank == 0),
        noting_signals(world.stop),
    ):
        recorded = _known_cost(run, world)
        setup = set_up(config, world, measured=recorded)
        trainer = Trainer(config, setup, world)
        if setup.measured is not None and setup.measured != recorded:
            record_cost(run.path, setup.measured, world)
        facts = run_facts(config, setup)
        with Monitor(run.path, facts, options=config.monitor, world=world) as monitor:
            try:
                return _run(trainer, run, monitor)
            except LeftEarlyError:
                monitor.event("stopped", trainer.step)
                monitor.say(_how_to_continue(trainer))
                raise Stopped from None


def _known_cost(run: RunFolder, world: World) -> StepCost | None:
    """What the run dealt by so far: of its snapshot, which is verified, or of its record."""
    kept = None if run.continuation is None else run.continuation.snapshot.facts.get("cost")
    return recorded_cost(run.path, world) if kept is None else StepCost(**kept)


def _run(trainer: Trainer, run: RunFolder, monitor: Monitor) -> Path:
    setup = trainer.setup
    monitor.say(label_table(setup))
    monitor.say(cost_line(setup))
    monitor.say(placement_table(setup, trainer.world))
    if any_rank(trainer.world, bool(trainer.world.stop)):
        raise LeftEarlyError
    before = _begin(trainer, run, monitor)
    with Archive(trainer, run, facts={"before": before}) as archive:
        with monitor.following(), trainer.reading_ahead():
            _train(trainer, archive, monitor)
        return _finish(trainer, archive, monitor, before)


def _begin(trainer: Trainer, run: RunFolder, monitor: Monitor) -> dict[str, Metrics]:
    """Restore what the run goes on from; the errors before each head's first step."""
    for remark in run.remarks:
        monitor.say(remark)
    continuation = run.continuation
    if continuation is not None:
        snapshot = continuation.snapshot
        state = read_parts(snapshot.folder, continuation.parts(trainer.weights.parts))
        trainer.restore(state, snapshot.facts)
        monitor.say(f"continuing from step {trainer.step} ({snapshot.folder})")
    deals, total = trainer.feed.deals, trainer.setup.total_steps
    monitor.begin(trainer.step, seconds=trainer.seconds, deals=deals)
    monitor.say(f"what {total} steps are\n{mixture_table(trainer.setup, deals)}")
    return _errors_before(trainer, continuation, monitor)


def _errors_before(
    trainer: Trainer, continuation: Continuation | None, monitor: Monitor
) -> dict[str, Metrics]:
    """Of heads that go on what is known of them; of those that join what they are now."""
    heads = list(trainer.setup.summaries)
    known = {} if continuation is None else continuation.snapshot.facts["before"]
    joining = [h for h in heads if continuation is None or h not in continuation.written_as]
    if joining:
        found = trainer.errors(_judged(trainer))
        joined = {name: found[name] for name in joining if name in found}
        monitor.evaluation("before", trainer.step, joined)
        known = {**known, **joined}
    return {name: known[name] for name in heads if name in known}


def _train(trainer: Trainer, archive: Archive, monitor: Monitor) -> None:
    """Train to the end.

    Raises:
        LeftEarlyError: some rank was asked to stop; a snapshot of where it was is there.
    """
    options = trainer.config.training
    while trainer.done < 1.0:
        trainer.written = archive.is_ready
        result = trainer.train_step()
        if result.written:
            archive.settle()
        _tell(result, trainer, archive.run.path, monitor)
        stop = result.stop
        if trainer.step % options.validate_every == 0 and trainer.done < 1.0 and not stop:
            stop = not _validated(trainer, archive, monitor)
        saves = archive.is_due() or trainer.done >= 1.0 or stop
        if saves or trainer.step % trainer.config.faults.compare_replicas_every == 0:
            trainer.weights.check_replicas(step=trainer.step)
        if saves:
            archive.take_snapshot()
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


def _validated(trainer: Trainer, archive: Archive, monitor: Monitor) -> bool:
    """Errors on the validation set; False if some rank was asked to stop meanwhile."""
    try:
        errors = trainer.errors("valid")
    except LeftEarlyError:
        return False
    monitor.evaluation("valid", trainer.step, errors)
    monitor.say(f"step {trainer.step}, validation\n{error_table({'valid': errors})}")
    archive.keep_best(errors)
    return True


def _how_to_continue(trainer: Trainer) -> str:
    """Where a run was stopped, and the way on. Call on every rank."""
    reasons = gather_objects(trainer.world, trainer.world.stop.reason)
    reason = next((reason for reason in reasons if reason is not None), "a signal")
    done = f"after step {trainer.step} of {trainer.setup.total_steps}, which is saved"
    return (
        f"stopped by {reason} {done if trainer.step else 'before the first step'}; the same "
        f"command continues it: {this_command()}"
    )


def _finish(
    trainer: Trainer, archive: Archive, monitor: Monitor, before: dict[str, Metrics]
) -> Path:
    if trainer.config.training.fit_readouts and (found := fit_readouts(trainer)):
        monitor.say(f"last layers, and held-out errors by them\n{fit_table(found)}")
    judged = _judged(trainer)
    after = trainer.errors(judged)
    monitor.evaluation(judged, trainer.step, after)
    valid = trainer.errors("valid")
    archive.keep_best(valid)
    archive.finish()
    errors = {"valid": valid, f"{judged}_before": before, judged: after}
    with trainer.world.pulse.unhurried("writing the checkpoint"):
        folder = write_checkpoint(trainer, archive.run.path, errors)
    trainer.world.pulse.hurried = False
    baseline = {name: s.baseline for name, s in trainer.setup.summaries.items()}
    table = error_table({"before": before, "after": after, "predicting nothing": baseline})
    monitor.say(f"errors on the {judged} sets\n{table}")
    seen = mixture_table(trainer.setup, trainer.feed.deals, step=trainer.step)
    monitor.say(f"what {trainer.step} steps were\n{seen}")
    monitor.event("finished", trainer.step, checkpoint=str(folder))
    monitor.say(f"checkpoint: {folder}")
    return folder


def _judged(trainer: Trainer) -> str:
    splits = {split for s in trainer.setup.summaries.values() for split in s.indices}
    return next((split for split in JUDGED if split in splits), "valid")
