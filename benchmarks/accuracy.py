"""Errors after equal training time from scratch, beside MACE and NequIP.

    python benchmarks/accuracy.py DATA [--seconds T] [--models NAME …] [--sets NAME …] [--at-once N]

DATA holds a folder for each set, as for benchmarks/real_data.py. Every model is trained on the same
structures with the same reference energies, in a process of its own with one thread and its own
recipe (peers/*_learner.py), for T seconds of the processor's time; energies and forces alone. Peers
are installed from PyPI into environments of their own (build/peers/, minutes, once).

What came out is kept below build/accuracy/ under a key of the data, the recipe, the versions and
the settings, and is not computed again while the key is the same; our own code as such is not part
of it, so remove our results where a change of it matters. Models can thus be trained at different
times. Prints the table for RESULTS.md and draws docs/accuracy.png, errors against training time,
of all there is for these T seconds.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.data import chemical_symbols
from ase.io import read, write
from gfm_models.loss import LossConfig
from gfm_models.presets import preset
from gfm_pretrain.config import TrainingOptions
from gfm_pretrain.data.extxyz import read_extxyz
from gfm_pretrain.data.labels import LabelKeys
from gfm_pretrain.data.reference import resolve_reference_energies
from gfm_pretrain.data.structure_set import in_memory
from gfm_pretrain.table import text_table
from machine import describe_machine
from matplotlib.figure import Figure
from peers.environments import PACKAGES, REPOSITORY, make_environment, pinned
from peers.report import COLORS

BENCHMARKS = Path(__file__).parent
BUILD = REPOSITORY / "build" / "accuracy"
PICTURE = REPOSITORY / "docs" / "accuracy.png"


@dataclass(frozen=True, kw_only=True)
class Set:
    """Some structures of a folder."""

    folder: str
    """Of DATA."""
    batch_size: dict[str, int]
    """Structures in a step, by model's name before the first space."""
    config_types: tuple[str, ...] = ()
    """Which ones; all if there is none."""
    but: tuple[str, ...] = ()
    """Which ones not."""


MOLECULES = {"ours": 8, "MACE": 5, "NequIP": 5}
CRYSTALS = {"ours": 4, "MACE": 4, "NequIP": 4}
SETS = {
    "rMD17 molecules": Set(folder="rmd17", batch_size=MOLECULES),
    "3BPA 300 K": Set(folder="wb97x_631gd", batch_size=MOLECULES, config_types=("3bpa_300K",)),
    "wB97X": Set(folder="wb97x_631gd", batch_size=MOLECULES, but=("3bpa_300K",)),
    "Zuo elements": Set(folder="mlearn", batch_size={**CRYSTALS, "ours": 2}),
    "MPtrj sample": Set(folder="mptrj_1k", batch_size=CRYSTALS),
}
MODELS = {
    "ours": ("own", "small"),
    "MACE small": ("mace", "small"),
    "MACE small, cosine": ("mace", "small+cosine"),
    "MACE small, cosine, 5 Å": ("mace", "small+cosine+5A"),
    "NequIP S": ("nequip", "S"),
    "NequIP S, 5 Å": ("nequip", "S+5A"),
}
"""Module and variant. Cutoffs are those of benchmarks/inference.py where none is named: 6 Å of both
peers, and 5 Å of ours, at which both have fewer neighbours and take more steps."""
ERRORS = {
    "forces_mae": "forces MAE meV/Å",
    "forces_rmse": "RMSE",
    "energy_mae": "energy MAE meV/atom",
    "energy_rmse": "RMSE",
}


def main() -> None:
    """Train what was not yet, print, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help="folder of the sets")
    add("--seconds", type=float, default=300.0, metavar="T", help="of the processor (300)")
    add("--models", nargs="+", choices=MODELS, default=list(MODELS))
    add("--sets", nargs="+", choices=SETS, default=list(SETS))
    add("--at-once", type=int, default=1, metavar="N", help="models, each on a core (1)")
    add("--picture", type=Path, default=PICTURE, metavar="FILE", help="(docs/accuracy.png)")
    options = parser.parse_args()
    for name in options.sets:
        if not (folder_of(name) / "reference_energies.json").exists():
            prepare(name, options.data)
    wanted = [(model, name) for name in options.sets for model in options.models]
    failed = train_all(wanted, options.seconds, at_once=options.at_once)
    found = kept(options.seconds)
    print(f"{describe_machine()}; {options.seconds:g} s of one core each\n")
    print(text_table(HEADER, [row(*case, found[case]) for case in found]))
    if found:
        draw(found, options.picture)
    if failed:
        raise SystemExit("failed, see their logs:\n" + "\n".join(map(str, failed)))


def folder_of(name: str) -> Path:
    """Where the structures of a set are, the same for all models."""
    return BUILD / name.replace(" ", "-")


def result_path(model: str, name: str, seconds: float) -> Path:
    """Where a result is kept: what has another key is another file."""
    key = hashlib.sha256(json.dumps(key_of(model, name)).encode()).hexdigest()[:8]
    readable = model.replace(",", "").replace(" ", "-")
    return folder_of(name) / f"{readable}-{seconds:g}-{key}.json"


def key_of(model: str, name: str) -> list[Any]:
    """All that a result depends on beside the time: versions, settings, recipe and data."""
    peer, variant = MODELS[model]
    files = [BENCHMARKS / "peers" / module for module in ("learning.py", f"{peer}_learner.py")]
    data = ("train.extxyz", "test.extxyz", "reference_energies.json")
    files += [folder_of(name) / file for file in data]
    if peer == "own":
        settings = [asdict(preset(variant)), asdict(LossConfig()), asdict(TrainingOptions())]
    else:
        settings = [PACKAGES[peer]]
        files.append(BENCHMARKS / "peers" / f"{peer}_peer.py")
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    return [pinned("torch"), variant, batch_size(model, name), settings, digests]


def batch_size(model: str, name: str) -> int:
    """Structures in a step."""
    return SETS[name].batch_size[model.replace(",", "").partition(" ")[0]]


def kept(seconds: float) -> dict[tuple[str, str], dict[str, Any]]:
    """What is known of models and sets, by both."""
    prepared = [name for name in SETS if (folder_of(name) / "reference_energies.json").exists()]
    paths = {
        (model, name): result_path(model, name, seconds) for name in prepared for model in MODELS
    }
    return {
        case: json.loads(path.read_text(encoding="utf-8"))
        for case, path in paths.items()
        if path.exists()
    }


def prepare(name: str, data: Path) -> None:
    """Write the structures of a set and their reference energies.

    Held out are those of its test split; where none is left of the chosen ones, as of the 3BPA
    frames, those of its validation split.
    """
    chosen, folder = SETS[name], folder_of(name)
    folder.mkdir(parents=True, exist_ok=True)
    splits = {s: structures(data / chosen.folder, s, chosen) for s in ("train", "valid", "test")}
    held_out = splits["test"] or splits["valid"]
    known = {symbol for atoms in splits["train"] for symbol in atoms.symbols}
    held_out = [atoms for atoms in held_out if set(atoms.symbols) <= known]
    write(folder / "train.extxyz", splits["train"], format="extxyz")
    write(folder / "test.extxyz", held_out, format="extxyz")
    metadata = json.loads((data / chosen.folder / "metadata.json").read_text(encoding="utf-8"))
    energies = metadata.get("isolated_atom_energies_eV") or fitted(folder / "train.extxyz")
    energies = {symbol: energies[symbol] for symbol in chemical_symbols if symbol in known}
    (folder / "reference_energies.json").write_text(json.dumps(energies), encoding="utf-8")


def structures(folder: Path, split: str, chosen: Set) -> list[Atoms]:
    """Those of a split that are chosen."""
    text = gzip.decompress((folder / f"{split}.extxyz.gz").read_bytes()).decode()
    found = read(io.StringIO(text), ":", format="extxyz")
    return [
        atoms
        for atoms in found
        if isinstance(atoms, Atoms)
        and (not chosen.config_types or atoms.info.get("config_type") in chosen.config_types)
        and atoms.info.get("config_type") not in chosen.but
    ]


def fitted(path: Path) -> dict[str, float]:
    """By robust least squares, as this project does where nothing else is known."""
    read_structures, _ = read_extxyz(path, keys=LabelKeys())
    fit = resolve_reference_energies(in_memory(read_structures, cutoff=3.0), "fit")
    return {chemical_symbols[z]: energy for z, energy in fit.values.items()}


def train_all(cases: list[tuple[str, str]], seconds: float, *, at_once: int) -> list[Path]:
    """Train what has no result yet, so many models at once, each bound to a core.

    Returns:
        Logs of those that failed.
    """
    waiting = [case for case in cases if not result_path(*case, seconds).exists()]
    cores = sorted(os.sched_getaffinity(0))[:at_once]
    running: dict[int, tuple[Path, subprocess.Popen[bytes]]] = {}
    failed: list[Path] = []
    while waiting or running:
        for core in cores:
            if core in running and running[core][1].poll() is not None:  # has ended
                log, ended = running.pop(core)
                failed += [log] if ended.returncode else []
            if core not in running and waiting:
                case = waiting.pop(0)
                print(time.strftime("%H:%M:%S"), *case, flush=True)
                log = result_path(*case, seconds).with_suffix(".log")
                running[core] = log, start(*case, seconds, core=core, log=log)
        time.sleep(1)
    return failed


def start(
    model: str, name: str, seconds: float, *, core: int, log: Path
) -> subprocess.Popen[bytes]:
    """A worker that trains a model on a set."""
    peer, variant = MODELS[model]
    out = result_path(model, name, seconds)
    command = [make_environment(peer), "-m", "peers.learning", peer, variant, folder_of(name)]
    command += ["--seconds", seconds, "--batch-size", batch_size(model, name), "--out", out]
    with log.open("wb") as file:
        return subprocess.Popen(
            ["taskset", "-c", str(core), *map(str, command)],
            cwd=BENCHMARKS,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )


HEADER = ("set", "model", "parameters", "steps", *ERRORS.values())


def row(model: str, name: str, found: dict[str, Any]) -> list[str]:
    """A line of the table."""
    end = found["curve"][-1]
    errors = [f"{1000 * end[key]:.3g}" for key in ERRORS]
    return [name, model, str(found["parameters"]), str(end["steps"]), *errors]


def draw(found: dict[tuple[str, str], dict[str, Any]], picture: Path) -> None:
    """Errors against time: a column for each set, forces above energies."""
    names = [name for name in SETS if any(name == other for _, other in found)]
    colors = dict(zip(MODELS, COLORS, strict=False))
    figure = Figure(figsize=(3.2 * len(names), 6), layout="constrained")
    axes = figure.subplots(2, len(names), squeeze=False, sharex=True)
    for column, name in enumerate(names):
        for model in (model for model in MODELS if (model, name) in found):
            curve = found[model, name]["curve"]
            for axis, key in zip(axes[:, column], ("forces_mae", "energy_mae"), strict=True):
                times = [point["seconds"] for point in curve]
                errors = [1000 * point[key] for point in curve]
                axis.loglog(times, errors, "o-", label=model, color=colors[model])
        axes[0, column].set_title(name)
        axes[1, column].set_xlabel("training time / s of one core")
    axes[0, 0].set_ylabel("forces, mean absolute error / meV/Å")
    axes[1, 0].set_ylabel("energy, mean absolute error / meV/atom")
    lines = {line.get_label(): line for axis in axes.flat for line in axis.get_lines()}
    chosen = [model for model in MODELS if model in lines]
    figure.legend([lines[m] for m in chosen], chosen, loc="outside upper center", ncols=len(chosen))
    figure.savefig(picture, dpi=150)
    print(f"\ndrawn: {picture}")


if __name__ == "__main__":
    main()
