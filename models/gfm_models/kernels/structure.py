"""What inference does with a structure besides the network, compiled, all in float64."""

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gfm_models.graph import AtomicGraph
from gfm_models.kernels.from_vectors import Surroundings
from gfm_models.kernels.library import Shape, check_tensor, load_library, pointer

_MESSAGES = {
    1: "`edges` were prepared for another graph",
    4: "`graph_index` must lie in 0 to {last_graph}, the structures that there are",
    5: "atomic numbers must lie in 1 to {last_element}",
}

EDGES_OF_A_THREAD = 2**15
"""Edges worth starting a thread for."""


class _Batch(ctypes.Structure):
    _fields_ = [("n_graphs", ctypes.c_int64), ("graph_index", ctypes.c_void_p)]


class _Repulsion(ctypes.Structure):
    _fields_ = [
        ("cutoff", ctypes.c_double),
        ("coulomb", ctypes.c_double),
        ("screening_length", ctypes.c_double),
        ("screening_power", ctypes.c_double),
        ("amplitudes", 4 * ctypes.c_double),
        ("exponents", 4 * ctypes.c_double),
        ("n_elements", ctypes.c_int64),
        ("radii", ctypes.c_void_p),
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class PairRepulsion:
    """The numbers of a screened Coulomb repulsion; see `zbl.ZBL`."""

    cutoff: float
    coulomb: float
    screening_length: float
    screening_power: float
    amplitudes: Sequence[float]
    exponents: Sequence[float]
    radii: Float[Tensor, " elements"]


def compute_edge_vectors(graph: AtomicGraph, order: Tensor) -> Float[Tensor, "edges 3"]:
    """As `graph.edge_vectors`.

    Args:
        graph: On the CPU.
        order: Of its edges, from `order_edges`.
    """
    vectors = torch.empty(graph.n_edges, 3, dtype=torch.float64)
    inputs = (graph.positions, graph.cell, graph.shifts)
    check_tensor(graph.positions, torch.float64, graph.n_nodes, 3)
    check_tensor(graph.cell, torch.float64, graph.n_graphs, 3, 3)
    check_tensor(graph.shifts, torch.int64, graph.n_edges, 3)
    _call("edge_vectors", graph, order, _batch(graph), *inputs, vectors)
    return vectors


def add_repulsion(
    numbers: PairRepulsion,
    graph: AtomicGraph,
    around: Surroundings,
    *,
    to_vectors: Float[Tensor, "edges 3"],
) -> Float[Tensor, " nodes"]:
    """Repulsion energy of every atom in eV; adds its gradient by the vectors to `to_vectors`."""
    energies = torch.empty(graph.n_nodes, dtype=torch.float64)
    vectors = around.vectors
    for tensor in (vectors, to_vectors):
        check_tensor(tensor, torch.float64, graph.n_edges, 3)
    check_tensor(graph.atomic_numbers, torch.int64, graph.n_nodes)
    check_tensor(numbers.radii, torch.float64, len(numbers.radii))
    n_threads = max(1, min(torch.get_num_threads(), graph.n_edges // EDGES_OF_A_THREAD))
    tensors = (graph.atomic_numbers, vectors, energies, to_vectors)
    _call("repulsion", graph, around.order, _numbers(numbers), *tensors, n_threads)
    return energies


def forces_and_virials(
    graph: AtomicGraph,
    around: Surroundings,
    *,
    gradient: Float[Tensor, "edges 3"],
) -> tuple[Float[Tensor, "nodes 3"], Float[Tensor, "graphs 3 3"]]:
    """-dE/dr in eV/Å and dE/dε in eV, from the gradient of E by the edge vectors."""
    for tensor in (around.vectors, gradient):
        check_tensor(tensor, torch.float64, graph.n_edges, 3)
    forces = torch.empty(graph.n_nodes, 3, dtype=torch.float64)
    virials = torch.empty(graph.n_graphs, 3, 3, dtype=torch.float64)
    tensors = (around.vectors, gradient, forces, virials)
    _call("forces_and_virials", graph, around.order, _batch(graph), *tensors)
    return forces, virials


def _call(name: str, graph: AtomicGraph, order: Tensor, *arguments: object) -> None:
    shape = Shape(graph.n_nodes, graph.n_nodes, graph.n_edges, 0, order.data_ptr())
    converted = (pointer(a) if isinstance(a, Tensor) else a for a in arguments)
    status = structure_library()[name](ctypes.byref(shape), *converted)
    if status:
        last = {"last_graph": graph.n_graphs - 1, "last_element": "118"}
        raise ValueError(_MESSAGES[status].format(**last))


@functools.cache
def structure_library() -> ctypes.CDLL:
    """The functions in `structure.c`, built on first use."""
    return load_library("structure", {}, defines={})


def _batch(graph: AtomicGraph) -> object:
    check_tensor(graph.graph_index, torch.int64, graph.n_nodes)
    return ctypes.byref(_Batch(graph.n_graphs, graph.graph_index.data_ptr()))


def _numbers(numbers: PairRepulsion) -> object:
    return ctypes.byref(
        _Repulsion(
            numbers.cutoff,
            numbers.coulomb,
            numbers.screening_length,
            numbers.screening_power,
            (4 * ctypes.c_double)(*numbers.amplitudes),
            (4 * ctypes.c_double)(*numbers.exponents),
            len(numbers.radii),
            numbers.radii.data_ptr(),
        )
    )
