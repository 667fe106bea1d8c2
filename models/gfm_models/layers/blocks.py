"""An interaction computed for some atoms at a time, and again when it is differentiated.

What is large in a network of this kind is what belongs to edges: of a radial weight, a neighbour's
features and their products there are as many as edges, some twenty to eighty for each atom, and
training on forces keeps them all, with their derivatives. An atom's new features depend on its own
edges alone, so that the edges of a few atoms can be worked off and forgotten before the next.
"""

from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gfm_models.layers.recompute import recomputed


def interact_in_blocks(
    interaction: nn.Module,
    features: Float[Tensor, "nodes components channels"],
    *,
    elements: Float[Tensor, "nodes element_channels"],
    basis: Float[Tensor, "edges n_radial"],
    envelope: Float[Tensor, " edges"],
    harmonics: Float[Tensor, "edges harmonics"],
    edge_index: Int[Tensor, "2 edges"],
    block_edges: int,
) -> Float[Tensor, "nodes components_out channels"]:
    """What `interaction` gives for the same arguments, with little kept for the derivatives.

    Args:
        interaction: See `Interaction`.
        features: As there, like all that is not said here.
        elements: As there.
        basis: As there.
        envelope: As there.
        harmonics: As there.
        edge_index: As there; edges are sorted by receiver.
        block_edges: Edges of a block, about; a block has whole atoms.
    """
    n_nodes, n_edges = cut(edge_index[1], n_nodes=len(elements), block_edges=block_edges)
    of_nodes = elements.split(n_nodes)
    of_edges = [tensor.split(n_edges) for tensor in (basis, envelope, harmonics)]
    first, new = 0, []
    for count, own, index, *edges in zip(
        n_nodes, of_nodes, edge_index.split(n_edges, dim=1), *of_edges, strict=True
    ):
        block = _Block(interaction, index - index.new_tensor([[0], [first]]))
        new.append(recomputed(block, [features, own, *edges], list(interaction.parameters())))
        first += count
    return torch.cat(new)


def cut(
    receivers: Int[Tensor, " edges"], *, n_nodes: int, block_edges: int
) -> tuple[list[int], list[int]]:
    """Numbers of nodes and of edges of each block; blocks have about equally many edges."""
    ends = torch.bincount(receivers, minlength=n_nodes).cumsum(0).cpu()
    n_blocks = max(1, min(n_nodes, -(-len(receivers) // block_edges)))
    targets = torch.arange(1, n_blocks) * len(receivers) / n_blocks
    cuts = torch.searchsorted(ends, targets).unique().tolist()
    nodes = [0, *(c for c in cuts if 0 < c < n_nodes), n_nodes]
    edges = [0, *(int(ends[n - 1]) for n in nodes[1:])] if n_nodes else [0, 0]
    return _differences(nodes), _differences(edges)


def _differences(bounds: list[int]) -> list[int]:
    return [end - start for start, end in pairwise(bounds)]


class _Block:
    """The interaction of some receivers with all senders."""

    def __init__(self, interaction: nn.Module, edge_index: Int[Tensor, "2 edges"]) -> None:
        self.interaction = interaction
        self.edge_index = edge_index

    def __call__(
        self, features: Tensor, elements: Tensor, basis: Tensor, envelope: Tensor, harmonics: Tensor
    ) -> Tensor:
        return self.interaction(
            features,
            elements=elements,
            basis=basis,
            envelope=envelope,
            harmonics=harmonics,
            edge_index=self.edge_index,
        )
