"""The command `gfm-pretrain`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gfm_pretrain.command_line import parse_once
from gfm_pretrain.extras import packages_for
from gfm_pretrain.failure import USER_ERRORS, run_main
from gfm_pretrain.process import World

if TYPE_CHECKING:
    from gfm_pretrain.config import RunConfig

PROGRAM = "gfm-pretrain"
DESCRIPTION = """\
Pretrain a multi-head potential. Under mpiexec, torchrun or srun every rank takes part; started
alone, it is a run of one rank. The same command continues a run that was interrupted."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `gfm-pretrain`; the exit status. Call on every rank."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=DESCRIPTION)
    parser.add_argument("config", type=Path, help="configuration of the run, YAML")
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting, such as training.steps=100",
    )
    arguments = parse_once(lambda: parser.parse_args(argv), program=PROGRAM)
    try:
        config = _read(arguments.config, arguments.overrides)
    except USER_ERRORS as error:
        return run_main(_raising(error), program=PROGRAM, device="cpu")
    return run_main(
        lambda world: _pretrain(config, world),
        program=PROGRAM,
        device=config.device,
        hang_seconds=config.faults.hang_seconds,
    )


def _read(path: Path, overrides: Sequence[str]) -> RunConfig:
    with packages_for("training", extra="train"):
        from gfm_pretrain.run_configuration import read_run_configuration

    return read_run_configuration(path, overrides)


def _pretrain(config: RunConfig, world: World) -> None:
    with packages_for("training", extra="train"):
        from gfm_pretrain.train import pretrain

    pretrain(config, world)


def _raising(error: Exception):
    def main(_: World) -> None:
        raise error

    return main


if __name__ == "__main__":
    sys.exit(main())
