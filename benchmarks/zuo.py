"""The test sets of Zuo et al. (2020), one model for each element, beside GAP and MTP.

    python benchmarks/zuo.py DATA [--seconds T] [--elements E …] [--variants V …] [--at-once N]

DATA holds the folder `mlearn`, as the folder data of this repository does. The preset `small` is
trained from scratch on the published training set of an element, energies, forces and stresses,
with one thread, for T seconds of the processor's time, and evaluated on the published test set.
Energies weigh ten times as much as they do by default, for their errors are far smaller than those
of forces in units of these. Stresses of nickel are not learned, for they are 3 GPa off what its
energies say (data/README.md). A variant is overrides of the run's configuration, such as
"model.l_max=3"; "" is as it is. What came out is kept below build/zuo/; an interrupted comparison
goes on where it was.

Prints the tables for RESULTS.md, the second one of what solving for the last layer did, and draws
docs/zuo.png: errors against training time.

Source of what is compared with: Zuo et al., J. Phys. Chem. A 124, 731 (2020), table 2.
"""

import argparse
from itertools import cycle
from pathlib import Path

from gfm_pretrain.table import text_table
from machine import describe_machine
from matplotlib.figure import Figure
from peers.environments import REPOSITORY
from peers.report import COLORS, show_learning
from peers.trained import ERRORS, FINISHED, Case, train_all
from problems import read_split, write_problem

PICTURE = REPOSITORY / "docs" / "zuo.png"
PUBLISHED = {
    "Li": {"GAP": (0.49, 10), "MTP": (0.49, 10)},
    "Ni": {"GAP": (0.42, 20), "MTP": (0.48, 10)},
    "Mo": {"GAP": (2.24, 90), "MTP": (2.83, 90)},
    "Si": {"GAP": (2.91, 70), "MTP": (2.21, 60)},
}
"""Mean absolute errors, meV/atom and meV/Å; forces were published to 10 meV/Å."""
BATCH_SIZE = 2
ENERGY_WEIGHT = 10
STRESS_WEIGHTS = {"Li": 0.5, "Ni": 0, "Mo": 0.5, "Si": 0.5}


def main() -> None:
    """Train what was not yet, print, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help="folder of the sets")
    add("--seconds", type=float, default=900.0, metavar="T", help="of the processor (900)")
    add("--elements", nargs="+", choices=PUBLISHED, default=list(PUBLISHED))
    add("--variants", nargs="+", default=[""], metavar="V", help="overrides; '' is none of them")
    add("--at-once", type=int, default=1, metavar="N", help="models, each on a core (1)")
    options = parser.parse_args()
    cases = {element: prepared(element, options) for element in options.elements}
    failed = train_all([case for some in cases.values() for case in some], at_once=options.at_once)
    if failed:
        raise SystemExit("failed, see their logs:\n" + "\n".join(map(str, failed)))
    print(f"{describe_machine()}; {options.seconds:g} s of one core each\n")
    header = ("element", "model", "parameters", "steps", *ERRORS.values())
    print(text_table(header, [row for some in cases.items() for row in rows(*some)]))
    finished = [[e, case.model, *case.finish()] for e, some in cases.items() for case in some]
    print(f"\n{text_table(('element', 'model', *FINISHED), finished)}")
    draw(cases)


def prepared(element: str, options: argparse.Namespace) -> list[Case]:
    """The models of an element; what they learn from is written down."""
    folder = REPOSITORY / "build" / "zuo" / element
    splits = {
        split: [
            atoms
            for atoms in read_split(options.data / "mlearn", split)
            if set(atoms.symbols) == {element}
        ]
        for split in ("train", "valid", "test")
    }
    write_problem(folder, splits["train"] + splits["valid"], splits["test"])
    weights = f"loss.energy_weight={ENERGY_WEIGHT} loss.stress_weight={STRESS_WEIGHTS[element]}"
    return [
        Case(
            folder=folder,
            model=f"ours {variant}".strip(),
            peer="own",
            variant=f"small {weights} {variant}".strip(),
            batch_size=BATCH_SIZE,
            seconds=options.seconds,
        )
        for variant in options.variants
    ]


def rows(element: str, cases: list[Case]) -> list[list[str]]:
    """Ours, and what was published."""
    published = [
        [element, name, "", "", f"{forces:g}", "", f"{energy:g}", ""]
        for name, (energy, forces) in PUBLISHED[element].items()
    ]
    return [*([element, case.model, *case.row()] for case in cases), *published]


def draw(cases: dict[str, list[Case]]) -> None:
    """Errors against time: a column for each element, forces above energies."""
    figure = Figure(figsize=(3.2 * len(cases), 6), layout="constrained")
    axes = figure.subplots(2, len(cases), squeeze=False, sharex=True)
    for column, (element, some) in enumerate(cases.items()):
        axes[0, column].set_title(element)
        axes[1, column].set_xlabel("training time / s of one core")
        for row, key in enumerate(("energy_mae", "forces_mae")):
            axis = axes[1 - row, column]
            for case, marker in zip(some, cycle("os^vD<>"), strict=False):
                axis.loglog(*case.curve(key), f"{marker}-", label=case.model, color=COLORS[0])
            for color, (name, errors) in zip(
                COLORS[1::2], PUBLISHED[element].items(), strict=False
            ):
                axis.axhline(errors[row], ls="--", color=color, label=name)
            show_learning(axis, some[0].curve(key)[0])
    axes[0, 0].set_ylabel("forces MAE / meV/Å")
    axes[1, 0].set_ylabel("energy MAE / meV/atom")
    axes[0, 0].legend()
    figure.savefig(PICTURE, dpi=150)
    print(f"\ndrawn: {PICTURE.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()
