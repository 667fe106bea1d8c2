"""The command `gfm plan`: who owns what, what a step takes, and how a run would scale."""

from __future__ import annotations

import argparse
import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from gfm_pretrain.extras import packages_for

from gfmcalc.job_script_cli import add_job_script, write_job_script

if TYPE_CHECKING:
    from gfm_pretrain.config import RunConfig
    from gfm_pretrain.cost import StepCost
    from gfm_pretrain.plan.machine import Machine
    from gfm_pretrain.plan.prediction import Question
    from gfm_pretrain.plan.scaling import Scaling
    from gfm_pretrain.plan.workload import Workload

PLAN = """\
Show what a run would be on a number of ranks, without starting any: which ranks own which head,
how even their loads are in real steps, and what they hold in memory. With a machine, also how long
a step would take there by multi-task parallelism and by plain DDP; with --scaling for 1 to 40 000
devices. Bands tell how uncertain that is; docs/plan.md tells what was measured and what assumed."""
DEVICES = "1-40000"


# argparse has no public name for the type of what `add_subparsers` returns.
def add_plan(commands) -> None:
    """Add `plan` to the parser of `gfm`."""
    text = "show placement, balance, memory and scaling of a run before it is started"
    parser: argparse.ArgumentParser = commands.add_parser("plan", help=text, description=PLAN)
    parser.set_defaults(command=_plan)
    add = parser.add_argument
    add("config", metavar="RUN.yaml", type=Path, help="configuration of the run")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="change a setting of it")
    add("--ranks", type=int, metavar="N", help="number of ranks")
    add("--steps", type=int, default=20, metavar="K", help="steps to draw and deal (20)")
    add("--plot", type=Path, metavar="FILE", help="draw it: .png, .svg or .pdf")
    add("--json", type=Path, metavar="FILE", help="write all figures of a prediction")
    _add_prediction(parser.add_argument_group("prediction of times"))
    _add_scaling(parser.add_argument_group("scaling"))
    add_job_script(parser.add_argument_group("job script"))


def _add_prediction(group) -> None:
    add = group.add_argument
    add("--machine", metavar="NAME|FILE", help="frontier, perlmutter, aurora, or a file of yours")
    add("--measure", action="store_true", help="measure the cost of atoms and edges here")
    add("--cost", metavar="MS,µS,µS", help="it was measured: ms a pass, µs an atom, µs an edge")
    add("--on-device", action="store_true", help="… on a device of that machine, not on a CPU core")
    add("--jitter", type=float, default=0.0, metavar="S", help="random spread of compute times (0)")
    add("--seed", type=int, default=0, metavar="N", help="of the random numbers (0)")


def _add_scaling(group) -> None:
    add = group.add_argument
    add("--scaling", choices=("strong", "weak"), help="predict for growing numbers of devices")
    add("--devices", default=DEVICES, metavar="A-B|N,…", help=f"how many ({DEVICES})")
    text = "structures in a step: of all ranks if strong, of each if weak (as in the run)"
    add("--batch", type=Fraction, metavar="B", help=text)


def _plan(arguments: argparse.Namespace) -> int:
    _check(arguments)
    config = _read(arguments)
    if arguments.script is not None:
        sys.stdout.write(write_job_script(arguments, run=config.run))
        return 0
    with packages_for("gfm plan", extra="train"):
        from gfm_pretrain.plan.machine import read_machine
        from gfm_pretrain.plan.workload import read_workload

    machine = None if arguments.machine is None else read_machine(arguments.machine)
    cost = _cost(arguments, config)
    workload = read_workload(config, cost)
    if machine is None or cost is None:
        _show_placement(arguments, config, workload)
        return 0
    question = _question(arguments, config, workload, machine=machine, cost=cost)
    if arguments.scaling is not None:
        _scale(arguments, workload, question)
    else:
        _show_placement(arguments, config, workload)
        _predict(arguments, workload, question)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be before any data are read."""
    for name in ("ranks", "steps"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}")
    if arguments.ranks is None and arguments.scaling is None:
        raise ValueError("--ranks N is missing, or --scaling strong|weak")
    if arguments.scaling is not None and arguments.machine is None:
        raise ValueError("--scaling needs --machine frontier|perlmutter|aurora|FILE")
    if arguments.machine is None and arguments.json is not None:
        raise ValueError("--json needs --machine: it holds predictions of times")
    if arguments.plot is not None and arguments.plot.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"--plot must end in .png, .svg or .pdf, got {arguments.plot}")
    if arguments.batch is not None and not arguments.batch > 0:
        raise ValueError(f"--batch must be positive, got {arguments.batch}")
    if not arguments.jitter >= 0:
        raise ValueError(f"--jitter must not be negative, got {arguments.jitter}")


def _read(arguments: argparse.Namespace) -> RunConfig:
    with packages_for("gfm plan", extra="train"):
        from gfm_pretrain.run_configuration import read_run_configuration

    return read_run_configuration(arguments.config, arguments.overrides)


def _show_placement(arguments: argparse.Namespace, config: RunConfig, workload: Workload) -> None:
    from gfm_pretrain.plan.dealing import deal_steps
    from gfm_pretrain.plan.ownership import summary

    n_ranks, method = arguments.ranks, config.training.placement
    n_shards = 1
    if config.training.reduction == "sharded":
        n_shards = config.training.shard_ranks or n_ranks
    owners = workload.place(n_ranks, method=method)
    steps = deal_steps(workload, owners, n_ranks=n_ranks, n_steps=arguments.steps)
    _write(summary(workload, owners, steps, method=method, n_shards=n_shards))
    if arguments.plot is not None:
        with packages_for("gfm plan --plot", extra="plots"):
            from gfm_pretrain.plan.ownership_picture import plot_ownership

        title = f"{arguments.config}: {len(owners)} heads on {n_ranks} ranks, {method}"
        plot_ownership(owners, steps, arguments.plot, title=title)
        _write(f"\npicture: {arguments.plot}")


def _cost(arguments: argparse.Namespace, config: RunConfig) -> StepCost | None:
    from gfm_pretrain.plan.step_cost import choose_cost, describe_cost

    cost, origin = choose_cost(config, given=arguments.cost, measure=arguments.measure)
    if cost is not None:
        _write(f"cost of a step: {describe_cost(cost)} ({origin})\n")
    elif arguments.machine is not None:
        raise ValueError(
            "times need the cost of a pass, an atom and an edge: measure it here with --measure, "
            "or give it with --cost, such as --cost 20,84,35 (ms, µs, µs)"
        )
    return cost


def _question(
    arguments: argparse.Namespace,
    config: RunConfig,
    workload: Workload,
    *,
    machine: Machine,
    cost: StepCost,
) -> Question:
    from gfm_pretrain.plan.pass_profile import measure_pass
    from gfm_pretrain.plan.prediction import Jitter, Question

    training = config.training
    return Question(
        machine=machine.as_measured() if arguments.on_device else machine,
        cost=cost,
        profile=measure_pass(
            workload.architecture,
            width=max(head.width for head in config.heads.values()),
            dtype=workload.dtype,
            bytes_per_bucket=round(training.bucket_megabytes * 1e6),
            block_edges=training.checkpoint_edges if training.checkpoint_activations else None,
        ),
        n_steps=arguments.steps,
        jitter=Jitter(spread=arguments.jitter, seed=arguments.seed),
    )


def _predict(arguments: argparse.Namespace, workload: Workload, question: Question) -> None:
    from gfm_pretrain.plan.prediction import predict_all
    from gfm_pretrain.plan.scaling import Scaling, scaling_table

    found = {p.strategy: (p,) for p in predict_all(workload, question, arguments.ranks)}
    prediction = Scaling(kind="strong", question=question, predictions=found)
    _write(f"\n{question.machine.name}, {question.machine.device}\n{scaling_table(prediction)}")
    _write_json(arguments, prediction)


def _scale(arguments: argparse.Namespace, workload: Workload, question: Question) -> None:
    from gfm_pretrain.plan.scaling import parse_numbers, scale, scaling_table

    machine = question.machine
    numbers = parse_numbers(arguments.devices, ranks_per_node=machine.ranks_per_node)
    batch = arguments.batch or _batch_of_run(arguments, workload)
    scaling = scale(workload, question, numbers, kind=arguments.scaling, batch_size=batch)
    _write(f"{arguments.scaling} scaling on {machine.name}, {machine.device}")
    _write(scaling_table(scaling))
    if arguments.plot is not None:
        with packages_for("gfm plan --plot", extra="plots"):
            from gfm_pretrain.plan.scaling_picture import plot_scaling

        each = " per rank" if arguments.scaling == "weak" else ""
        title = (
            f"{arguments.config}: {arguments.scaling} scaling on {machine.name}, "
            f"{float(batch):g} structures per step{each}"
        )
        plot_scaling(scaling, arguments.plot, title=title)
        _write(f"\npicture: {arguments.plot}")
    _write_json(arguments, scaling)


def _batch_of_run(arguments: argparse.Namespace, workload: Workload) -> Fraction:
    if arguments.scaling == "strong":
        return workload.batch_size
    if arguments.ranks is None:
        raise ValueError(
            "weak scaling needs --batch B, structures of each rank, or --ranks N, the ranks that "
            "the run's own batch is for"
        )
    return workload.batch_size / arguments.ranks


def _write_json(arguments: argparse.Namespace, scaling: Scaling) -> None:
    from gfm_pretrain.plan.scaling import scaling_facts

    if arguments.json is not None:
        text = json.dumps(scaling_facts(scaling), indent=1, ensure_ascii=False)
        arguments.json.write_text(text + "\n", encoding="utf-8")
        _write(f"\nfigures: {arguments.json}")


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
