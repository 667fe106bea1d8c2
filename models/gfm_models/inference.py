"""Energies and their derivatives without autograd: where nothing is trained, on the fused back end.

Edge vectors, edge operation, repulsion, forces and virial are compiled; layers have their adjoints
beside them. Memory goes as the number of atoms times channels and as the number of edges, never as
the product of the two. The numbers are those of `MultiHeadPotential.forward`, to rounding.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gfm_models.backbone import Backbone
from gfm_models.graph import AtomicGraph
from gfm_models.heads import Head
from gfm_models.kernels.from_vectors import Surroundings
from gfm_models.kernels.library import order_edges
from gfm_models.kernels.structure import compute_edge_vectors, forces_and_virials
from gfm_models.layers.interaction import Interaction
from gfm_models.layers.mixing import ChannelMixing
from gfm_models.layers.radial import RadialWeights
from gfm_models.layers.sphere import SphereProduct
from gfm_models.potential import MultiHeadPotential
from gfm_models.zbl import ZBL

OWN_PARTS = {MultiHeadPotential, Backbone, Interaction, ChannelMixing, RadialWeights, SphereProduct}
PLAIN_PARTS = {nn.Embedding, nn.Linear, nn.ModuleDict, nn.ModuleList, nn.Sequential, nn.SiLU}
PARTS = {*OWN_PARTS, *PLAIN_PARTS, Head, ZBL}
"""What `evaluate` knows how to compute."""


def can_evaluate(potential: MultiHeadPotential) -> bool:
    """Whether `evaluate` says what `potential.forward` would.

    Its back end is "fused", and nobody has put something else in a part's place, derived a class
    with another `forward` from it, or hung a hook on it.
    """
    return potential.backbone.backend == "fused" and all(
        type(part) in PARTS and not part._forward_hooks and not part._forward_pre_hooks
        for part in potential.modules()
    )


@torch.no_grad()
def evaluate(
    potential: MultiHeadPotential, graph: AtomicGraph, head: str
) -> tuple[Float[Tensor, " nodes"], Float[Tensor, "nodes 3"], Float[Tensor, "graphs 3 3"]]:
    """What one head says of a batch, where `can_evaluate`.

    Returns:
        Atomic energies in eV, forces in eV/Å and virials in eV, float64.

    Raises:
        ValueError: no head of this name, an element that it does not know, or a graph on another
            device than the potential.
    """
    if graph.positions.device.type != "cpu":
        raise ValueError(f"the graph is on '{graph.positions.device}', the potential on 'cpu'")
    potential.check(graph, head)
    graph = graph.contiguous()
    n = graph.n_nodes
    order = order_edges(graph.edge_index, n_senders=n, n_receivers=n)
    vectors = compute_edge_vectors(graph, order)
    around = Surroundings(order=order, vectors=vectors, cutoff=potential.cutoff)
    to_vectors = torch.zeros_like(vectors)
    energies = potential.repulsion.with_gradient(graph, around, to_vectors=to_vectors)
    features, adjoint = potential.backbone.with_adjoint(graph, around, to_vectors=to_vectors)
    learned, to_features = potential.head(head).with_gradient(features, graph.atomic_numbers)
    adjoint(to_features)
    return energies + learned, *forces_and_virials(graph, around, gradient=to_vectors)
