"""The command `gfm plan`: who owns what, what a step takes, and how a run would scale."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gfm_pretrain.extras import packages_for

if TYPE_CHECKING:
    from gfm_pretrain.config import RunConfig

PLAN = """\
Show what a run would be on a number of ranks, without starting any: which ranks own which head,
how even their loads are in real steps, and what they hold in memory."""


# argparse has no public name for the type of what `add_subparsers` returns.
def add_plan(commands) -> None:
    """Add `plan` to the parser of `gfm`."""
    text = "show placement, balance, memory and scaling of a run before it is started"
    parser: argparse.ArgumentParser = commands.add_parser("plan", help=text, description=PLAN)
    parser.set_defaults(command=_plan)
    add = parser.add_argument
    add("config", metavar="RUN.yaml", type=Path, help="configuration of the run")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="change a setting of it")
    add("--ranks", type=int, required=True, metavar="N", help="number of ranks")
    add("--steps", type=int, default=20, metavar="K", help="steps to draw and deal (20)")
    add("--plot", type=Path, metavar="FILE", help="draw it: .png, .svg or .pdf")


def _plan(arguments: argparse.Namespace) -> int:
    if arguments.ranks < 1:
        raise ValueError(f"--ranks must be at least 1, got {arguments.ranks}")
    if arguments.steps < 1:
        raise ValueError(f"--steps must be at least 1, got {arguments.steps}")
    config = _read(arguments)
    with packages_for("gfm plan", extra="train"):
        from gfm_pretrain.plan.dealing import deal_steps
        from gfm_pretrain.plan.ownership import summary
        from gfm_pretrain.plan.workload import read_workload

    workload = read_workload(config)
    method = config.training.placement
    owners = workload.place(arguments.ranks, method=method)
    steps = deal_steps(workload, owners, n_ranks=arguments.ranks, n_steps=arguments.steps)
    sys.stdout.write(summary(workload, owners, steps, method=method) + "\n")
    if arguments.plot is not None:
        with packages_for("gfm plan --plot", extra="plots"):
            from gfm_pretrain.plan.ownership_picture import plot_ownership

        title = f"{arguments.config}: {len(owners)} heads on {arguments.ranks} ranks, {method}"
        plot_ownership(owners, steps, arguments.plot, title=title)
        sys.stdout.write(f"\npicture: {arguments.plot}\n")
    return 0


def _read(arguments: argparse.Namespace) -> RunConfig:
    with packages_for("gfm plan", extra="train"):
        from gfm_pretrain.config import RunConfig
        from gfm_pretrain.configuration import read_configuration

    return read_configuration(RunConfig, arguments.config, arguments.overrides)
