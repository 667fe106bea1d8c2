"""From energy to forces, stress and Hessian: the only place that differentiates."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gfm_models.graph import AtomicGraph, edge_vectors, volumes
from gfm_models.inference import can_evaluate, evaluate
from gfm_models.potential import MultiHeadPotential


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What one head says of a batch, float64."""

    energy: Float[Tensor, " graphs"]
    """Total energy in eV, reference energies included."""

    atomic_energies: Float[Tensor, " nodes"]
    """Energy of each atom in eV; they sum to `energy`."""

    forces: Float[Tensor, "nodes 3"]
    """-dE/dr in eV/Å."""

    virial: Float[Tensor, "graphs 3 3"]
    """dE/dε in eV for a symmetric strain ε of positions and cell; stress times volume."""


def predict(
    potential: MultiHeadPotential, graph: AtomicGraph, head: str, *, create_graph: bool = False
) -> Prediction:
    """Energy and its derivatives.

    The energy depends on the structure through the edge vectors d alone, so that one gradient
    g = dE/dd gives both: it pushes sender and receiver apart, and Σ d ⊗ g is the virial. Where
    nothing is to be differentiated further, the fused back end has derivatives of its own (see
    `inference`).

    Args:
        potential: Holds `head`.
        graph: Made with the potential's cutoff.
        head: Name of the fidelity.
        create_graph: Keep what training on forces and stress needs.
    """
    if not create_graph and can_evaluate(potential):
        atomic, forces, virial = evaluate(potential, graph, head)
    else:
        atomic, forces, virial = _differentiate(potential, graph, head, create_graph=create_graph)
    energy = _sum_by_graph(atomic, graph)
    return Prediction(energy=energy, atomic_energies=atomic, forces=forces, virial=virial)


def predict_energy(
    potential: MultiHeadPotential, graph: AtomicGraph, head: str
) -> Float[Tensor, " graphs"]:
    """Total energies alone, in eV."""
    return _sum_by_graph(potential(graph, edge_vectors(graph), head), graph)


@dataclass(frozen=True, kw_only=True, eq=False)
class Units:
    """What each input of a readout's last layer adds to a batch with a weight of one, float64.

    Summed with the weights of the layer, and with what does not depend on them, they are the
    prediction: the energy is linear in these weights.
    """

    energy: Float[Tensor, "graphs width"]
    """eV."""

    forces: Float[Tensor, "nodes 3 width"]
    """eV/Å."""

    virial: Float[Tensor, "graphs 3 3 width"]
    """eV."""


def predict_units(potential: MultiHeadPotential, graph: AtomicGraph, head: str) -> Units:
    """Energy, forces and virials of every unit of a head; one gradient for each of them."""
    with torch.inference_mode(False), torch.enable_grad():
        vectors = edge_vectors(graph).detach().requires_grad_()
        units = _units(potential, graph, vectors, head)
        gradients = [
            _gradient(of_unit, vectors, create_graph=False, retain_graph=True)
            for of_unit in units.sum(0)
        ]
    known = vectors.detach()
    return Units(
        energy=_sum_by_graph(units.detach(), graph),
        forces=torch.stack([_forces(gradient, graph) for gradient in gradients], dim=-1),
        virial=torch.stack([_virial(gradient, known, graph) for gradient in gradients], dim=-1),
    )


@torch.no_grad()
def predict_unit_energies(
    potential: MultiHeadPotential, graph: AtomicGraph, head: str
) -> Float[Tensor, "graphs width"]:
    """The energies alone, in eV."""
    return _sum_by_graph(_units(potential, graph, edge_vectors(graph), head), graph)


def stress(virial: Float[Tensor, "graphs 3 3"], graph: AtomicGraph) -> Float[Tensor, "graphs 3 3"]:
    """Stress in eV/Å³, positive when tensile; zero for structures without a volume."""
    volume = volumes(graph)
    exists = volume > 0
    return torch.where(exists, 1 / torch.where(exists, volume, 1.0), 0.0)[:, None, None] * virial


def hessian(
    potential: MultiHeadPotential, graph: AtomicGraph, head: str
) -> Float[Tensor, "nodes 3 nodes 3"]:
    """Second derivatives of the energy by the positions in eV/Å², row by row.

    Raises:
        ValueError: the graph holds several structures.
    """
    if graph.n_graphs != 1:
        raise ValueError(f"a Hessian is of one structure, the graph holds {graph.n_graphs}")
    with torch.inference_mode(False), torch.enable_grad():
        positions = graph.positions.detach().requires_grad_()
        shift_part = (edge_vectors(graph) - _differences(graph.positions, graph)).detach()
        vectors = _differences(positions, graph) + shift_part
        energy = potential(graph, vectors, head).sum()
        gradient = _gradient(energy, positions, create_graph=True)
        rows = [
            _gradient(component, positions, create_graph=False, retain_graph=True)
            for component in gradient.flatten()
        ]
    stacked = torch.stack(rows) if rows else graph.positions  # no atoms, no rows
    return stacked.reshape(graph.n_nodes, 3, graph.n_nodes, 3)


def _differentiate(
    potential: MultiHeadPotential, graph: AtomicGraph, head: str, *, create_graph: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Atomic energies, forces and virials by autograd."""
    with torch.inference_mode(False), torch.enable_grad():
        vectors = edge_vectors(graph).detach().requires_grad_()
        atomic = potential(graph, vectors, head)
        gradient = _gradient(atomic.sum(), vectors, create_graph=create_graph)
    virial = _virial(gradient, vectors.detach(), graph)
    return atomic if create_graph else atomic.detach(), _forces(gradient, graph), virial


def _gradient(
    output: Tensor, inputs: Tensor, *, create_graph: bool, retain_graph: bool | None = None
) -> Tensor:
    if not output.requires_grad:  # no edges, or an energy that is linear in the positions
        return torch.zeros_like(inputs)
    (gradient,) = torch.autograd.grad(
        output, inputs, create_graph=create_graph, retain_graph=retain_graph, allow_unused=True
    )
    return torch.zeros_like(inputs) if gradient is None else gradient


def _units(
    potential: MultiHeadPotential, graph: AtomicGraph, vectors: Tensor, head: str
) -> Float[Tensor, "nodes width"]:
    return potential.head(head).units(potential.backbone(graph, vectors), graph.atomic_numbers)


def _differences(positions: Tensor, graph: AtomicGraph) -> Tensor:
    return positions[graph.receivers] - positions[graph.senders]


def _sum_by_graph(values: Tensor, graph: AtomicGraph) -> Tensor:
    zeros = values.new_zeros(graph.n_graphs, *values.shape[1:])
    return zeros.index_add(0, graph.graph_index, values)


def _forces(gradient: Tensor, graph: AtomicGraph) -> Tensor:
    zeros = gradient.new_zeros(graph.n_nodes, 3)
    return zeros.index_add(0, graph.senders, gradient).index_add(0, graph.receivers, -gradient)


def _virial(gradient: Tensor, vectors: Tensor, graph: AtomicGraph) -> Tensor:
    outer = vectors[:, :, None] * gradient[:, None, :]
    symmetric = (outer + outer.mT) / 2
    of_edge = graph.graph_index[graph.receivers]
    return gradient.new_zeros(graph.n_graphs, 3, 3).index_add(0, of_edge, symmetric)
