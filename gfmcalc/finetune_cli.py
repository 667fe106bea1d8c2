"""The command `gfm-finetune`."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from gfm_pretrain.command_line import parse_once
from gfm_pretrain.extras import packages_for
from gfm_pretrain.failure import run_main
from gfm_pretrain.process import World

from gfmcalc.command_line import E0S, read_reference_energies, with_dashes

PROGRAM = "gfm-finetune"
DESCRIPTION = """\
Add a head for your own data to a pretrained model. Works alone, and under mpiexec or torchrun with
several ranks. The same command continues a run that was interrupted."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `gfm-finetune`; the exit status. Call on every rank."""
    words = with_dashes(sys.argv[1:] if argv is None else argv)
    arguments = vars(parse_once(lambda: _parser().parse_args(words), program=PROGRAM))
    return run_main(
        lambda world: _finetune(arguments, world), program=PROGRAM, device=arguments["device"]
    )


def _finetune(arguments: dict[str, Any], world: World) -> None:
    with packages_for("training", extra="train"):
        from gfm_pretrain.process import broadcast_object

        from gfmcalc.finetune import FinetuneOptions, finetune
        from gfmcalc.hub import resolve_model

    model = resolve_model(arguments["model"]) if world.rank == 0 else None
    chosen = {name: value for name, value in arguments.items() if value is not None}
    chosen |= {
        "model": broadcast_object(world, model),
        "run": arguments["run"] or f"finetune-{arguments['head']}",
        "reference_energies": read_reference_energies(arguments["reference_energies"]),
    }
    if "labels" in chosen:
        chosen["labels"] = tuple(chosen["labels"])
    folder, tables = finetune(FinetuneOptions(**chosen), world)
    if world.rank == 0:
        usage = f'GFMCalculator("{folder}", head="{arguments["head"]}")'
        sys.stdout.write(f"\n{tables}\n\n{usage}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description=DESCRIPTION)
    add = parser.add_argument
    add("train", metavar="TRAIN", help="extended XYZ file with the new data, or a store")
    add("--model", required=True, help="checkpoint or run folder, or org/name on the hub")
    add("--head", required=True, metavar="NEW", help="name of the new head")
    add("--valid", metavar="FILE", help="validation data")
    add("--valid-fraction", type=float, metavar="F", help="part of TRAIN set aside (default 0.1)")
    add("--test", metavar="FILE", help="test data, for the table of errors")
    add("--inherit-head", metavar="OLD", help="head to start from (default: the best one)")
    add("--method", choices=("full", "heads"), help="train all (default), or the new head alone")
    add(
        "--E0s",
        dest="reference_energies",
        default="auto",
        metavar=E0S,
        help="reference energies: from isolated atoms, by least squares, or a JSON file",
    )
    add(
        "--labels",
        nargs="+",
        choices=("energy", "forces", "stress"),
        help="labels that the data must have (default: energy forces)",
    )
    add("--energy-key", metavar="KEY", help="key of the energy in TRAIN")
    add("--forces-key", metavar="KEY", help="key of the forces in TRAIN")
    add("--stress-key", metavar="KEY", help="key of the stress in TRAIN")
    add("--level-of-theory", metavar="TEXT", help="of the new data, such as PBE/def2-SVP")
    add("--epochs", "--max-num-epochs", type=int, metavar="N", help="passes over TRAIN (100)")
    add("--batch-size", type=int, metavar="N", help="structures in every step (8)")
    add("--lr", dest="learning_rate", type=float, metavar="X", help="learning rate (2e-3)")
    add("--run", metavar="FOLDER", help="folder of the run (finetune-NEW)")
    add("--seed", type=int, metavar="N", help="of the order of the data (0)")
    add("--default-dtype", dest="dtype", choices=("float32", "float64"), help="of the weights")
    add("--device", choices=("auto", "cpu", "cuda", "xpu"), default="auto", help="kind of device")
    return parser


if __name__ == "__main__":
    sys.exit(main())
