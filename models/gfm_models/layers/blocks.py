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

from gfm_models.kernels.edge_operation import Edges, prepare_edges
from gfm_models.layers.recompute import recomputed


def interact_in_blocks(
    interaction: nn.Module,
    features: Float[Tensor, "nodes components channels"],
    *,
    elements: Float[Tensor, "nodes element_channels"],
    lengths: Float[Tensor, " edges"],
    basis: Float[Tensor, "edges n_radial"],
    harmonics: Float[Tensor, "edges harmonics"],
    edges: Edges,
    block_edges: int,
) -> Float[Tensor, "nodes components_out channels"]:
    """What `interaction` gives for the same arguments, with little kept for the derivatives.

    Args:
        interaction: See `Interaction`.
        features: As there, like all that is not said here.
        elements: As there.
        lengths: As there.
        basis: As there.
        harmonics: As there.
        edges: As there.
        block_edges: Edges of a block, about; a block has whole atoms.
    """
    n_nodes, n_edges = cut(edges.edge_index[1], n_nodes=len(elements), block_edges=block_edges)
    of_nodes = elements.split(n_nodes)
    of_edges = [tensor.split(n_edges) for tensor in (lengths, basis, harmonics)]
    first, new = 0, []
    for count, own, index, *geometry in zip(
        n_nodes, of_nodes, edges.edge_index.split(n_edges, dim=1), *of_edges, strict=True
    ):
        of_block = prepare_edges(
            index - index.new_tensor([[0], [first]]),
            n_nodes=len(features),
            n_receivers=count,
            backend=edges.backend,
        )
        block = _Block(interaction, of_block)
        new.append(recomputed(block, [features, own, *geometry], list(interaction.parameters())))
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

    def __init__(self, interaction: nn.Module, edges: Edges) -> None:
        self.interaction = interaction
        self.edges = edges

    def __call__(
        self, features: Tensor, elements: Tensor, lengths: Tensor, basis: Tensor, harmonics: Tensor
    ) -> Tensor:
        return self.interaction(
            features,
            elements=elements,
            lengths=lengths,
            basis=basis,
            harmonics=harmonics,
            edges=self.edges,
        )
