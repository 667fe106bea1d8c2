"""The back ends on a GPU: the comparisons of the tests, speed, CUDA graphs, and lower precision.

    python benchmarks/gpu.py [--repetitions N] [--only PART ...]

Needs one GPU that torch and Triton can use; without one it says so and measures nothing. Weights
are random, in float32; graphs are made beforehand and lie on the device. Times are of the wall
clock between synchronised ends, after warm-up, back ends taking turns; ratios are of times from
the same repetition.

Parts: `tests` (tests/models/on_triton.py on the device), `speed` (energies, forces and virial, and
a training step, of 64 waters and of 20 000 atoms of nickel), `graphs` (the edge operation and its
gradient for a molecule, started one by one and replayed as a CUDA graph), `precision` (errors with
TF32 products against float64 on the device).
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule
from backends import HEAD, SPACING, spread
from edge_operation import random_arguments
from gfm_models.backbone import BackboneConfig
from gfm_models.derivatives import predict
from gfm_models.graph import AtomicGraph, graph_from_atoms
from gfm_models.kernels.backend import Backend
from gfm_models.kernels.edge_operation import edge_operation, prepare_edges
from gfm_models.kernels.paths import natural_paths
from gfm_models.potential import MultiHeadPotential, build_potential
from gfm_pretrain.table import text_table
from jaxtyping import Float
from torch import Tensor

ROOT = Path(__file__).parents[1]
BACKENDS: tuple[Backend, ...] = ("reference", "triton")
CONFIG = BackboneConfig()
N_WARM_UP = 5
PARTS = ("tests", "speed", "graphs", "precision")

Call = Callable[[], object]


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=20, metavar="N", help="at least 1 (20)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="(all)")
    options = parser.parse_args()
    device = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        sys.exit("no GPU here: torch sees no accelerator, so nothing was measured")
    print(f"{name_of(device)}; torch {torch.__version__}; {options.repetitions} repetitions\n")
    if "tests" in options.only:
        run_tests()
    if "speed" in options.only:
        show_speed(device, max(1, options.repetitions))
    if "graphs" in options.only:
        show_graphs(device, max(1, options.repetitions))
    if "precision" in options.only:
        show_precision(device)


def name_of(device: torch.device) -> str:
    """As the driver calls it."""
    return torch.get_device_module(device).get_device_name()


def run_tests() -> None:
    """The tests of the Triton back end on the device; failures end the benchmark.

    Raises:
        CalledProcessError: one of them failed.
    """
    command = [sys.executable, "-m", "pytest", "-q", str(ROOT / "tests/models/on_triton.py")]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"TRITON_INTERPRET": "0"}, check=True)


def show_speed(device: torch.device, repetitions: int) -> None:
    """A table of inference and training."""
    rows = []
    for name, atoms in structures().items():
        graph = graph_of(atoms, device)
        for work, make in (("inference", inference), ("training", training)):
            calls = [make(potential_on(device, backend), graph) for backend in BACKENDS]
            times = time_in_turn(calls, repetitions)
            memory = [peak_memory(call) for call in calls]
            gains = times[0] / times
            for backend, own, gain, peak in zip(BACKENDS, times, gains, memory, strict=True):
                case = (name, graph.n_nodes, graph.n_edges, work, backend, f"{peak / 1e6:.0f}")
                per_atom = f"{1e6 * np.median(own) / graph.n_nodes:.3f}"
                rows.append(
                    (*case, *spread(1e3 * own, digits=3), per_atom, *spread(gain, digits=2))
                )
    header = ("system", "atoms", "edges", "work", "back end", "MB", "min ms", "median", "max")
    print(text_table((*header, "µs/atom", "× reference min", "median", "max"), rows), "\n")


def peak_memory(call: Call) -> int:
    """Bytes of tensors on the device, at most, those of all models there included."""
    torch.accelerator.memory.reset_peak_memory_stats()
    call()
    return torch.accelerator.memory.max_memory_allocated()


def show_graphs(device: torch.device, repetitions: int) -> None:
    """A molecule, whose time is that of starting functions."""
    if device.type != "cuda":
        print("CUDA graphs: not on this device\n")
        return
    call = edge_gradients(device)
    replay = captured(call)
    times = time_in_turn([call, replay], repetitions)
    rows = [
        (name, *spread(1e3 * own, digits=4), *spread(gain, digits=2))
        for name, own, gain in zip(("started", "replayed"), times, times[0] / times, strict=True)
    ]
    header = ("T and gradients, ethanol", "min ms", "median", "max", "gain min", "median", "max")
    print(text_table(header, rows), "\n")


def show_precision(device: torch.device) -> None:
    """Errors of energies and forces of 64 waters against float64."""
    graph = graph_of(structures()["64 H2O"], device)
    exact = predict(potential_on(device, "triton", torch.float64), graph, "head")
    rows = []
    for name, tf32 in (("float32", False), ("TF32 products", True)):
        potential = potential_on(device, "triton")
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        found = predict(potential, graph, "head")
        torch.set_float32_matmul_precision("highest")
        energy = (found.energy - exact.energy).abs().max().item() / graph.n_nodes
        forces = relative_error(found.forces, exact.forces)
        rows.append((name, f"{energy:.1e}", f"{forces:.1e}"))
    header = ("precision", "energy, eV/atom", "forces, of their root mean square")
    print(text_table(header, rows), "\n")


def relative_error(found: Tensor, exact: Tensor) -> float:
    """Root mean square of the error, in units of that of what is exact."""
    return ((found - exact).square().mean().sqrt() / exact.square().mean().sqrt()).item()


def structures() -> dict[str, Atoms]:
    """Water at 1 g/cm³ and 20 000 atoms of nickel, moved by about 0.1 Å."""
    water = molecule("H2O", cell=np.full(3, SPACING), pbc=True) * (4, 4, 4)
    nickel = bulk("Ni", cubic=True) * (20, 25, 10)
    for seed, atoms in enumerate((water, nickel)):
        atoms.rattle(0.1, seed=seed)
    return {"64 H2O": water, "Ni 20 000": nickel}


def graph_of(atoms: Atoms, device: torch.device) -> AtomicGraph:
    """Its graph, on the device."""
    return graph_from_atoms(atoms, cutoff=CONFIG.cutoff).to(device)


def potential_on(
    device: torch.device, backend: Backend, dtype: torch.dtype = torch.float32
) -> MultiHeadPotential:
    """The same random weights every time, whatever their precision.

    Raises:
        RuntimeError: another back end than the one asked for.
    """
    heads = {"head": HEAD}
    potential = build_potential(CONFIG, heads, dtype=dtype, backend=backend)
    potential.load_state_dict(build_potential(CONFIG, heads, seed=0).state_dict())
    potential.to(device)
    if potential.backbone.backend != backend:
        raise RuntimeError(f"asked for {backend}, got {potential.backbone.backend}")
    return potential


def inference(potential: MultiHeadPotential, graph: AtomicGraph) -> Call:
    """Energies, forces and virial."""
    potential.requires_grad_(False)
    return lambda: predict(potential, graph, "head")


def training(potential: MultiHeadPotential, graph: AtomicGraph) -> Call:
    """Energies and forces, and the gradient of a loss of both by all weights."""

    def step() -> None:
        potential.zero_grad(set_to_none=True)
        prediction = predict(potential, graph, "head", create_graph=True)
        (prediction.energy.square().sum() + prediction.forces.square().sum()).backward()

    return step


def edge_gradients(device: torch.device) -> Call:
    """The edge operation of the second interaction and its gradients, for one molecule."""
    graph = graph_from_atoms(molecule("CH3CH2OH"), cutoff=CONFIG.cutoff)
    paths = natural_paths(l_in=CONFIG.l_hidden, l_edge=CONFIG.l_max, l_out=CONFIG.l_max)
    on_cpu = random_arguments(graph, paths, l_in=CONFIG.l_hidden, channels=CONFIG.channels)
    arguments = [x.to(device).requires_grad_() for x in on_cpu]
    edge_index = graph.edge_index.to(device)

    def call() -> object:
        edges = prepare_edges(edge_index, n_nodes=graph.n_nodes, backend="triton")
        value = edge_operation(*arguments, edges=edges, paths=paths)
        return torch.autograd.grad(value.sum(), arguments)

    return call


def captured(call: Call) -> Call:
    """The same, recorded once and replayed as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(N_WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def time_in_turn(calls: Sequence[Call], repetitions: int) -> Float[np.ndarray, "calls repetitions"]:
    """Seconds of each call in each repetition; the order rotates."""
    for call in calls:
        for _ in range(N_WARM_UP):
            call()
    times = np.empty((len(calls), repetitions))
    for repetition in range(repetitions):
        for place in range(len(calls)):
            row = (place + repetition) % len(calls)
            torch.accelerator.synchronize()
            start = time.perf_counter()
            calls[row]()
            torch.accelerator.synchronize()
            times[row, repetition] = time.perf_counter() - start
    return times


if __name__ == "__main__":
    main()
