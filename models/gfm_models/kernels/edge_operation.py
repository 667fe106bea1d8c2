"""The edge operation T(R, Y, h): where an equivariant network spends its time.

    A[i, m3, c] = Σ_{edges e into i} Σ_{paths p → l3} R[e, p, c] Σ_{m1, m2} C_p[m1, m2, m3]
                  Y[e, m2] h[sender(e), m1, c]

symbol → variable: R → radial, Y → harmonics, h → features, C_p → `coupling` of path p.
It is linear in each of R, Y and h, so all its derivatives are made of the same operation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from gfm_models.kernels.backend import Backend
from gfm_models.kernels.edge_library import edge_library
from gfm_models.kernels.fused import edge_order, edge_value, flatten_paths
from gfm_models.kernels.library import OTHER_GRAPH, receivers_in, whole_vectors
from gfm_models.kernels.paths import Path
from gfm_models.kernels.reference import reference_edge_operation


@dataclass(frozen=True, kw_only=True, eq=False)
class Edges:
    """The edges of a graph, prepared for a back end; see `prepare_edges`."""

    edge_index: Int[Tensor, "2 edges"]
    """Senders and receivers, sorted by receiver."""

    n_receivers: int
    """Number of receivers; mostly they are the senders, too."""

    order: Int[Tensor, " order"] | None
    """Edges by receiver and by sender; None for the reference, which needs no such thing."""

    backend: Backend
    """What they were prepared for."""


def prepare_edges(
    edge_index: Int[Tensor, "2 edges"],
    *,
    n_nodes: int,
    backend: Backend,
    n_receivers: int | None = None,
) -> Edges:
    """What every edge operation on this graph shares.

    Args:
        edge_index: Senders and receivers; edges are sorted by receiver.
        n_nodes: Number of nodes.
        backend: See `choose_backend`.
        n_receivers: Number of receivers, where they are not the same nodes as the senders.

    Raises:
        ValueError: an edge of a node that does not exist, or edges in another order; the
            reference does not look.
    """
    count = n_nodes if n_receivers is None else n_receivers
    order = None if backend == "reference" else edge_order(edge_index, n_nodes, count)
    return Edges(edge_index=edge_index, n_receivers=count, order=order, backend=backend)


def edge_operation(
    radial: Float[Tensor, "edges paths channels"],
    harmonics: Float[Tensor, "edges harmonics"],
    features: Float[Tensor, "senders components channels"],
    *,
    edges: Edges,
    paths: Sequence[Path],
) -> Float[Tensor, "receivers components_out channels"]:
    """Sum over neighbours of radial weight × harmonics × the neighbour's features.

    Args:
        radial: R, one weight per edge, path and channel; its channels may be padded already, as by
            `whole_vectors`.
        harmonics: Y, spherical harmonics of the edge directions, degrees side by side.
        features: h of the senders, degrees side by side.
        edges: From `prepare_edges`, which also decides on the back end.
        paths: The couplings, one for each column of `radial`; they reach every degree up to the
            largest `l_out`.

    Returns:
        A, degrees 0 to the largest `l_out` side by side; paths to one degree are added.
    """
    if edges.order is None:
        return reference_edge_operation(
            radial,
            harmonics,
            features,
            edge_index=edges.edge_index,
            paths=paths,
            n_receivers=edges.n_receivers,
        )
    if edges.backend == "triton":
        _check_order(edges, harmonics, features)
        return edge_value(radial, harmonics, features, edges.order, flatten_paths(paths))
    lanes = edge_library(tuple(paths), features.dtype).lanes
    value = edge_value(
        whole_vectors(radial, lanes),
        harmonics,
        whole_vectors(features, lanes),
        edges.order,
        flatten_paths(paths),
    )
    return _without_padding(value, features)


def _check_order(edges: Edges, harmonics: Tensor, features: Tensor) -> None:
    """Refuse those of another graph by their number: what is on a GPU is not looked at."""
    assert edges.order is not None
    n_receivers = receivers_in(edges.order, n_senders=len(features), n_edges=len(harmonics))
    if n_receivers != edges.n_receivers:
        raise ValueError(OTHER_GRAPH)


def _without_padding(value: Tensor, features: Tensor) -> Tensor:
    n = features.shape[-1]
    return value if value.shape[-1] == n else value[..., :n]
