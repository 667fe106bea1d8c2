"""Physics of the calculator as users get it: dynamics, phonons, and cost against size.

    python benchmarks/physics.py nve phonons scaling [--model FOLDER] [--heads NAME …]
        [--data DATA] [--steps N] [--picoseconds N] [--repeat N] [--atoms N] [--memory-limit GB]

Every part asks `GFMCalculator(FOLDER, head=NAME)` with nothing else said: network in float32,
geometry and sums in float64, the fastest back end. Of the heads, the first that knows the elements
of a structure is used. Where no model is given one is trained (build/physics/, once), from samples
in DATA, which is this repository's data/ unless something else is said; magnesia needs a DATA with
`pbesol_supercells` and is left out otherwise.

nve: dynamics at constant energy of silicon and ethanol, beside float64. To be held: a drift of less
than 0.1 meV/atom in 10 ps. Draws docs/nve.png.

phonons: of silicon and magnesia by finite displacements, beside float64 on the reference back end
with the same weights. To be held: 0.05 THz everywhere. Draws docs/phonons.png.

scaling: energies, forces and stress of 200 to 100 000 atoms of water and nickel, neighbour lists
included, every size in a process of its own. Draws docs/scaling.png.
"""

import argparse
from pathlib import Path

import torch
from conserved_energy import conserve
from machine import describe_machine
from phonons import compare_phonons
from physics_model import ROOT, Model, trained_model
from scaling import scale

PARTS = ("nve", "phonons", "scaling")


def main() -> None:
    """A table and a picture of each part."""
    options = read_options()
    torch.set_num_threads(options.threads)
    model = Model.read(options.model or trained_model(options), options.heads)
    print(f"{describe_machine()}; {model.describe()}", flush=True)
    if "nve" in options.parts:
        conserve(model, picoseconds=options.picoseconds)
    if "phonons" in options.parts:
        compare_phonons(model, repeat=options.repeat)
    if "scaling" in options.parts:
        scale(
            model,
            most=options.atoms,
            threads=options.threads,
            memory_limit=options.memory_limit,
        )


def read_options() -> argparse.Namespace:
    """From the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("parts", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    add("--model", type=Path, metavar="FOLDER", help="checkpoint (one is trained)")
    add("--heads", nargs="+", metavar="NAME", help="that may be used (all that the model has)")
    add("--data", type=Path, default=ROOT / "data", metavar="DATA", help="to train on (data/)")
    add("--out", type=Path, default=ROOT / "build" / "physics", metavar="FOLDER", help="of the run")
    add("--steps", type=int, default=500, metavar="N", help="of training (500)")
    add("--threads", type=int, default=1, metavar="N", help="(1)")
    add("--picoseconds", type=float, default=10.0, metavar="N", help="of dynamics (10)")
    add("--repeat", type=int, default=3, metavar="N", help="cubic cells along an edge, phonons (3)")
    add("--atoms", type=int, default=110_000, metavar="N", help="most of scaling (110000)")
    add("--memory-limit", type=float, default=24.0, metavar="GB", help="of scaling (24)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
