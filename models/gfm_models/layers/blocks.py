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
from gfm_models.kernels.spline import RadialTable
from gfm_models.layers.interaction import Interaction
from gfm_models.layers.recompute import recomputed


def interact_in_blocks(
    interaction: Interaction,
    features: Float[Tensor, "nodes components channels"],
    *,
    radial: RadialTable,
    elements: Float[Tensor, "nodes element_channels"],
    lengths: Float[Tensor, " edges"],
    harmonics: Float[Tensor, "edges harmonics"],
    edges: Edges,
    block_edges: int,
) -> Float[Tensor, "nodes components_out channels"]:
    """What `interaction` gives for the same arguments, with little kept for the derivatives.

    Args:
        interaction: See `Interaction`.
        features: As there, like all that is not said here.
        radial: As there; it is kept.
        elements: As there.
        lengths: As there.
        harmonics: As there.
        edges: As there.
        block_edges: Edges of a block, about; a block has whole atoms.
    """
    n_nodes, n_edges = cut(edges.edge_index[1], n_nodes=len(elements), block_edges=block_edges)
    of_nodes = elements.split(n_nodes)
    of_edges = [tensor.split(n_edges) for tensor in (lengths, harmonics)]
    parameters = _used_by(interaction)
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
        block = _Block(interaction, of_block, radial.scale)
        new.append(recomputed(block, [radial.rows, features, own, *geometry], parameters))
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


def _used_by(interaction: Interaction) -> list[nn.Parameter]:
    """Weights that a block computes with; those of the radial network were used before."""
    before = set(interaction.radial.parameters())
    return [p for p in interaction.parameters() if p not in before]


class _Block:
    """The interaction of some receivers with all senders."""

    def __init__(self, interaction: Interaction, edges: Edges, scale: float) -> None:
        self.interaction = interaction
        self.edges = edges
        self.scale = scale

    def __call__(
        self, rows: Tensor, features: Tensor, elements: Tensor, lengths: Tensor, harmonics: Tensor
    ) -> Tensor:
        return self.interaction(
            features,
            radial=RadialTable(rows=rows, scale=self.scale),
            elements=elements,
            lengths=lengths,
            harmonics=harmonics,
            edges=self.edges,
        )
