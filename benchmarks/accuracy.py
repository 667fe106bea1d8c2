"""Errors after equal training time from scratch, beside MACE and NequIP.

    python benchmarks/accuracy.py DATA [--seconds T] [--models NAME …] [--sets NAME …] [--at-once N]

DATA holds a folder for each set, as for benchmarks/real_data.py. Every model is trained on the same
structures with the same reference energies, in a process of its own with one thread and its own
recipe (peers/*_learner.py), for T seconds of the processor's time; energies and forces alone. Peers
are installed from PyPI into environments of their own (build/peers/, minutes, once).

What came out is kept below build/accuracy/ (see peers/trained.py), so that models can be trained at
different times. Prints the table for RESULTS.md and draws docs/accuracy.png, errors against
training time, of all there is for these T seconds.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms
from gfm_pretrain.table import text_table
from machine import describe_machine
from matplotlib.figure import Figure
from peers.environments import REPOSITORY
from peers.report import COLORS, show_learning
from peers.trained import ERRORS, FINISHED, Case, train_all
from problems import read_split, write_problem

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

    def choose(self, found: Sequence[Atoms]) -> list[Atoms]:
        """Those that belong to it."""
        kinds = [(atoms, atoms.info.get("config_type")) for atoms in found]
        return [
            atoms
            for atoms, kind in kinds
            if (not self.config_types or kind in self.config_types) and kind not in self.but
        ]


MOLECULES = {"ours": 8, "MACE": 5, "NequIP": 5}
CRYSTALS = {"ours": 4, "MACE": 4, "NequIP": 4}
SETS = {
    "rMD17 molecules": Set(folder="rmd17", batch_size=MOLECULES),
    "3BPA 300 K": Set(folder="wb97x_631gd", batch_size=MOLECULES, config_types=("3bpa_300K",)),
    "wB97X": Set(folder="wb97x_631gd", batch_size=MOLECULES, but=("3bpa_300K",)),
    "Zuo elements": Set(folder="mlearn", batch_size=dict.fromkeys(CRYSTALS, 2)),
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
        prepare(name, options.data)
    wanted = [case_of(n, m, options.seconds) for n in options.sets for m in options.models]
    failed = train_all(wanted, at_once=options.at_once)
    found = known(options.seconds)
    print(f"{describe_machine()}; {options.seconds:g} s of one core each\n")
    rows = [[*key, *case.row()] for key, case in found.items()]
    print(text_table(("set", "model", "parameters", "steps", *ERRORS.values()), rows))
    finished = [[*key, *case.finish()] for key, case in found.items() if case.peer == "own"]
    print(f"\n{text_table(('set', 'model', *FINISHED), finished)}")
    if found:
        draw(found, options.picture)
    if failed:
        raise SystemExit("failed, see their logs:\n" + "\n".join(map(str, failed)))


def folder_of(name: str) -> Path:
    """Where the structures of a set are, the same for all models."""
    return BUILD / name.replace(" ", "-")


def prepare(name: str, data: Path) -> None:
    """Write what is learned of a set.

    Held out are those of its test split; where none is left of the chosen ones, as of the 3BPA
    frames, those of its validation split.
    """
    folder = data / SETS[name].folder
    splits = {s: SETS[name].choose(read_split(folder, s)) for s in ("train", "valid", "test")}
    metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    write_problem(
        folder_of(name),
        splits["train"],
        splits["test"] or splits["valid"],
        energies=metadata.get("isolated_atom_energies_eV"),
    )


def case_of(name: str, model: str, seconds: float) -> Case:
    """A model on a set."""
    peer, variant = MODELS[model]
    return Case(
        folder=folder_of(name),
        model=model,
        peer=peer,
        variant=variant,
        batch_size=SETS[name].batch_size[model.replace(",", "").partition(" ")[0]],
        seconds=seconds,
    )


def known(seconds: float) -> dict[tuple[str, str], Case]:
    """What has a result, by set and model."""
    prepared = [name for name in SETS if (folder_of(name) / "reference_energies.json").exists()]
    cases = {(name, model): case_of(name, model, seconds) for name in prepared for model in MODELS}
    return {key: case for key, case in cases.items() if case.is_known}


def draw(cases: dict[tuple[str, str], Case], picture: Path) -> None:
    """Errors against time: a column for each set, forces above energies."""
    names = list(dict.fromkeys(name for name, _ in cases))
    colors = dict(zip(MODELS, COLORS, strict=False))
    figure = Figure(figsize=(3.2 * len(names), 6), layout="constrained")
    axes = figure.subplots(2, len(names), squeeze=False, sharex=True)
    for (name, model), case in cases.items():
        column = names.index(name)
        for axis, key in zip(axes[:, column], ("forces_mae", "energy_mae"), strict=True):
            axis.loglog(*case.curve(key), "o-", label=model, color=colors[model])
            show_learning(axis, case.curve(key)[0])
        axes[0, column].set_title(name)
        axes[1, column].set_xlabel("training time / s of one core")
    axes[0, 0].set_ylabel("forces MAE / meV/Å")
    axes[1, 0].set_ylabel("energy MAE / meV/atom")
    lines = {line.get_label(): line for axis in axes.flat for line in axis.get_lines()}
    chosen = [model for model in MODELS if model in lines]
    figure.legend([lines[m] for m in chosen], chosen, loc="outside upper center", ncols=len(chosen))
    figure.savefig(picture, dpi=150)
    print(f"\ndrawn: {picture}")


if __name__ == "__main__":
    main()
