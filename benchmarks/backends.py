"""Time of a whole model on its back ends: energies, forces and stress, and a training step.

    python benchmarks/backends.py [--repetitions N] [--channels N]

In float32, on one thread, with random weights; the graph is made beforehand. Inference, with
weights that nobody trains, and a training step (energy, forces, a loss of both, gradient of all
weights) are compared on the reference and on the fused back end. Each repetition times every
variant once, in rotating order, and ratios are of times from the same repetition. Times are of the
processor.

`--start` instead tells what the fused back end costs before the first result: generating and
building its libraries in an empty cache folder, and finding them there the next time; processor
time, that of the compiler included.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule
from edge_operation import spread, time_interleaved
from gfm_models.backbone import BackboneConfig
from gfm_models.derivatives import predict
from gfm_models.graph import AtomicGraph, batch_graphs, graph_from_atoms
from gfm_models.heads import HeadConfig
from gfm_models.kernels.backend import Backend
from gfm_models.potential import MultiHeadPotential, build_potential
from gfm_pretrain.table import text_table
from machine import describe_machine

CUTOFF = BackboneConfig().cutoff
SPACING = 3.104
"""Å between water molecules at 1 g/cm³."""

BACKENDS: tuple[Backend, ...] = ("reference", "fused")
ELEMENTS = ("H", "C", "O", "Cu", "Ni")
HEAD = HeadConfig(
    level_of_theory="none",
    reference_energies=dict.fromkeys(ELEMENTS, 0.0),
    scales=dict.fromkeys(ELEMENTS, 1.0),
)
START = """
import resource, torch
from gfm_models.backbone import Backbone, BackboneConfig

def seconds():
    used = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)

torch.set_num_threads(1)
backbone = Backbone(BackboneConfig()).requires_grad_(False)
start = seconds()
assert backbone.backend == "fused"
print(f"back end {seconds() - start:.2f} s")
"""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=15, metavar="N", help="at least 1 (15)")
    parser.add_argument("--channels", type=int, default=BackboneConfig().channels, metavar="N")
    parser.add_argument("--start", action="store_true", help="time to the first result instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{describe_machine()}; {options.repetitions} repetitions\n")
    if options.start:
        show_start()
        return
    config = BackboneConfig(channels=options.channels)
    rows = [
        row
        for name, atoms in structures().items()
        for work in (inference_rows, training_rows)
        for row in work(name, atoms, config, max(1, options.repetitions))
    ]
    header = ("system", "atoms", "edges", "work", "variant", "min ms", "median", "max", "µs/atom")
    print(text_table((*header, "× reference min", "median", "max"), rows))


def show_start() -> None:
    """Two processes, one after the other, with a cache folder that is empty at first."""
    with tempfile.TemporaryDirectory() as folder:
        environ = os.environ | {"XDG_CACHE_HOME": folder}
        for what in ("empty cache", "next time"):
            command = [sys.executable, "-c", START]
            done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
            print(f"{what}: {done.stdout.strip()}")


def structures() -> dict[str, list[Atoms]]:
    """Water, a metal, a molecule, and a batch of that molecule; atoms moved by about 0.1 Å."""
    water = molecule("H2O", cell=np.full(3, SPACING), pbc=True) * (4, 4, 4)
    nickel = bulk("Ni", cubic=True) * (3, 3, 3)
    ethanol = [molecule("CH3CH2OH") for _ in range(32)]
    for seed, atoms in enumerate([water, nickel, *ethanol]):
        atoms.rattle(0.1, seed=seed)
    return {"64 H2O": [water], "Ni 108": [nickel], "ethanol": ethanol[:1], "32 ethanol": ethanol}


def inference_rows(
    name: str, structures: list[Atoms], config: BackboneConfig, repetitions: int
) -> list[tuple[object, ...]]:
    """Energies, forces and virial."""
    graph = graph_of(structures)

    def call(potential: MultiHeadPotential) -> Callable[[], object]:
        return lambda: predict(potential, graph, "head")

    potentials = {str(backend): build(config, backend) for backend in BACKENDS}
    for potential in potentials.values():
        potential.requires_grad_(False)
    calls = {variant: call(potential) for variant, potential in potentials.items()}
    return timed_rows(name, graph, "inference", calls, repetitions)


def training_rows(
    name: str, structures: list[Atoms], config: BackboneConfig, repetitions: int
) -> list[tuple[object, ...]]:
    """Energies and forces, and the gradient of a loss of both by all weights."""
    graph = graph_of(structures)

    def call(potential: MultiHeadPotential) -> Callable[[], object]:
        def step() -> None:
            potential.zero_grad(set_to_none=True)
            prediction = predict(potential, graph, "head", create_graph=True)
            (prediction.energy.square().sum() + prediction.forces.square().sum()).backward()

        return step

    calls = {str(backend): call(build(config, backend)) for backend in BACKENDS}
    return timed_rows(name, graph, "training", calls, repetitions)


def timed_rows(
    name: str,
    graph: AtomicGraph,
    work: str,
    calls: dict[str, Callable[[], object]],
    repetitions: int,
) -> list[tuple[object, ...]]:
    """Rows of the table, one for each variant."""
    times = time_interleaved(list(calls.values()), repetitions)
    rows = []
    for variant, own, gain in zip(calls, times, times[0] / times, strict=True):
        case = (name, graph.n_nodes, graph.n_edges, work, variant)
        per_atom = f"{1e6 * own.min() / graph.n_nodes:.0f}"
        rows.append((*case, *spread(1e3 * own, digits=1), per_atom, *spread(gain, digits=2)))
    return rows


def build(config: BackboneConfig, backend: Backend) -> MultiHeadPotential:
    """The same random weights every time."""
    return build_potential(config, {"head": HEAD}, backend=backend)


def graph_of(structures: list[Atoms]) -> AtomicGraph:
    """One graph of all."""
    return batch_graphs([graph_from_atoms(atoms, cutoff=CUTOFF) for atoms in structures])


if __name__ == "__main__":
    main()
