"""Variants of the backbone and of its training at equal training time.

    python benchmarks/ablations.py DATA [--sets S …] [--seconds T] [--variants FILE] [--label L]

DATA holds a folder for each set, as for benchmarks/real_data.py. Every variant is a line of
overrides of the run's configuration, such as `model.channels=32 training.learning_rate=0.01`, and
is trained from scratch on every set by the product's own trainer with one thread. The clock is the
processor's time for this process, in which the learning rate falls to its end; reading data,
building graphs and the update of averages count, validation does not. What came out, errors of the
averaged weights on the validation set, is added to a file line by line; what stands there under
the same label is not computed again.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from gfm_pretrain.config import RunConfig
from gfm_pretrain.process import open_world
from gfm_pretrain.run_configuration import read_run_configuration
from gfm_pretrain.setup import set_up
from gfm_pretrain.table import text_table
from gfm_pretrain.trainer import Trainer
from machine import describe_machine
from real_data import import_set

SETS = ("rmd17", "mlearn", "mptrj_1k")
BATCH_SIZES = {"rmd17": 8, "wb97x_631gd": 8, "mlearn": 2, "mptrj_1k": 4}
"""Structures in a step where a variant does not say."""
HEAD = "data"
CHECKS = (0.25, 0.5, 1.0)
"""Parts of the time after which errors are looked at."""


def main() -> None:
    """Train all variants that were not yet, and print all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help="folder of the sets")
    add("--out", type=Path, default=Path("build/ablations"), metavar="FOLDER", help="for results")
    add("--stores", type=Path, default=Path("build/real_data/stores"), metavar="FOLDER")
    add("--sets", nargs="+", default=list(SETS), metavar="S", help="(%(default)s)")
    add("--seconds", type=float, default=120.0, metavar="T", help="processor time of one run (120)")
    add(
        "--variants", type=Path, metavar="FILE", help="one variant a line, an empty one is as it is"
    )
    add("--label", default="", metavar="L", help="of the version of the code")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.sets:
        import_set(arguments.data / name, arguments.stores)
    for variant in arguments.variants.read_text().splitlines() if arguments.variants else [""]:
        for name in arguments.sets:
            run_once(name, variant.partition("#")[0].split(), arguments)
    print(describe_machine(), end="\n\n")
    print(text_table(HEADER, [row(found) for found in recorded(arguments.out)]))


def run_once(name: str, overrides: list[str], arguments: argparse.Namespace) -> None:
    """Train one variant on one set, unless its result is there."""
    key = {
        "label": arguments.label,
        "set": name,
        "variant": " ".join(overrides),
        "seconds": arguments.seconds,
    }
    if any(key.items() <= found.items() for found in recorded(arguments.out)):
        return
    config = configuration(name, overrides, arguments)
    found = key | train(config, arguments.seconds)
    with (arguments.out / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(found) + "\n")
    print(*row(found), flush=True)


def recorded(folder: Path) -> list[dict[str, Any]]:
    """All results so far."""
    path = folder / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def configuration(name: str, overrides: list[str], arguments: argparse.Namespace) -> RunConfig:
    """A run on one set, changed by `overrides`."""
    store = arguments.stores / name
    plain = {
        "run": str(arguments.out / "unused"),
        "heads": {HEAD: {"store": str(store), "batch_size": BATCH_SIZES.get(name, 8)}},
        "model": {},
        "training": {"steps": 1_000_000, "max_minutes": arguments.seconds / 60},
    }
    path = arguments.out / "run.yaml"
    path.write_text(json.dumps(plain), encoding="utf-8")
    changes = [word.replace("batch_size=", f"heads.{HEAD}.batch_size=") for word in overrides]
    return read_run_configuration(path, changes)


def train(config: RunConfig, seconds: float) -> dict[str, Any]:
    """Train for so many seconds of processor time; errors when parts of it are over."""
    curve: list[dict[str, Any]] = []
    used = 0.0
    with open_world(device="cpu") as world:
        trainer = Trainer(config, set_up(config, world), world)
        trainer.potential.backbone.backend  # noqa: B018 (builds what it needs)
        for part in CHECKS:
            while used < part * seconds:
                start = time.process_time()
                trainer.seconds = used  # the schedule goes by it
                trainer.train_step()
                used += time.process_time() - start
            curve.append({"seconds": used, "steps": trainer.step, **trainer.errors("valid")[HEAD]})
        n_parameters = sum(p.numel() for p in trainer.potential.backbone.parameters())
    return {"parameters": n_parameters, "curve": curve}


HEADER = (
    "label",
    "set",
    "s",
    "steps",
    "parameters",
    "forces MAE meV/Å",
    "RMSE",
    "energy MAE meV/atom",
    "RMSE",
    "forces MAE at half",
    "variant",
)


def row(found: dict[str, Any]) -> list[str]:
    """A line of the table."""
    end, half = found["curve"][-1], found["curve"][-2]
    errors = [
        f"{1000 * end[key]:.4g}"
        for key in ("forces_mae", "forces_rmse", "energy_mae_per_atom", "energy_rmse_per_atom")
    ]
    return [
        found["label"] or "-",
        found["set"],
        f"{found['seconds']:g}",
        str(end["steps"]),
        str(found["parameters"]),
        *errors,
        f"{1000 * half['forces_mae']:.4g}",
        found["variant"] or "as it is",
    ]


if __name__ == "__main__":
    main()
