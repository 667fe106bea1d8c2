"""A program of several ranks for test_readout_fit.py: what is solved for, and who has it.

readout_program.py CONFIG
"""

import json
import sys
from pathlib import Path
from typing import Any

from gfm_pretrain.config import RunConfig
from gfm_pretrain.configuration import read_configuration
from gfm_pretrain.failure import run_main
from gfm_pretrain.process import World, gather_objects
from gfm_pretrain.readout_fit import fit_readouts
from gfm_pretrain.setup import set_up
from gfm_pretrain.trainer import Trainer


def examine(config: RunConfig, world: World) -> dict[str, Any]:
    """What was found, the last layers of every rank, and the errors before and after."""
    trainer = Trainer(config, set_up(config, world), world)
    before = {"errors": trainer.errors("train"), "layers": last_layers(trainer)}
    found = fit_readouts(trainer)
    return {
        "before": before,
        "found": {
            name: None if fit is None else {"change": fit.change.tolist(), "ridge": fit.ridge}
            for name, fit in found.items()
        },
        "after": {"errors": trainer.errors("train"), "layers": last_layers(trainer)},
    }


def last_layers(trainer: Trainer) -> list[dict[str, list[float]]]:
    """What each rank would publish of the last layers of its heads."""
    with trainer.weights.average.average_parameters():
        mine = {
            name: trainer.potential.head(name).last_layer.flatten().tolist()
            for name in trainer.potential.head_names
        }
    return gather_objects(trainer.world, mine)


def main() -> int:
    config = read_configuration(RunConfig, Path(sys.argv[1]))

    def tell(world: World) -> None:
        facts = examine(config, world)
        if world.rank == 0:
            sys.stdout.write(json.dumps(facts))

    return run_main(tell, program="readout_program", device="cpu", timeout_seconds=60)


if __name__ == "__main__":
    sys.exit(main())
