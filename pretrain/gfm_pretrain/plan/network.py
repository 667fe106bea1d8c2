"""Bytes and seconds of sums over ranks, by the α–β model.

| symbol   | variable            |                                                          |
|----------|---------------------|----------------------------------------------------------|
| R, N, g  | `n_ranks`           | ranks, nodes, ranks of a node                            |
| n        | `n_bytes`           | of the tensor that is summed                             |
| α_i, α_o | `latency`           | seconds of a message inside a node, between two nodes    |
| B_i, B_o | `bandwidth`         | bytes/s of a device inside its node, to other nodes      |

Source: Thakur, Rabenseifner and Gropp, Int. J. High Perform. Comput. Appl. 19, 49 (2005), for the
terms; Sanders, Speck and Träff, Parallel Comput. 35, 581 (2009), for two trees at full bandwidth.
"""

import math
from dataclasses import dataclass

ALGORITHMS = ("ring", "tree", "hierarchical")


@dataclass(frozen=True, kw_only=True)
class Link:
    """A way from one device to another."""

    latency: float
    """Seconds of a message without content."""
    bandwidth: float
    """Bytes per second of one device."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """What connects the ranks of a job."""

    ranks_per_node: int
    """Devices of a node."""
    inside: Link
    """Between devices of a node."""
    between: Link
    """From node to node; the bandwidth is a device's share of its node's."""
    call: float
    """Seconds that a collective takes whatever it sends: launching it on the device."""
    algorithms: tuple[str, ...]
    """Those that the library chooses the fastest of."""


def ring_bytes(n_bytes: float, n_ranks: int) -> float:
    """What each rank of a ring sends to sum a tensor: 2 (R − 1) / R · n."""
    return 2 * (n_ranks - 1) / n_ranks * n_bytes


def gather_bytes(n_bytes: float, n_ranks: int) -> float:
    """What each rank sends to gather, or to reduce and scatter, a tensor: (R − 1) / R · n."""
    return (n_ranks - 1) / n_ranks * n_bytes


def all_reduce_seconds(network: Network, n_bytes: float, n_ranks: int, *, stride: int = 1) -> float:
    """Time to sum a tensor over ranks, by the fastest algorithm the library has.

    Args:
        network: What connects the ranks.
        n_bytes: Of the tensor.
        n_ranks: Members of the group: neighbours, or every `stride`-th rank.
        stride: 1, or as many as the ranks of a node: then no two members share a node.
    """
    if n_ranks == 1 or n_bytes == 0:
        return 0.0
    per_node = min(n_ranks, max(1, network.ranks_per_node // stride))
    n_nodes = math.ceil(n_ranks / per_node)
    times = {name: _SECONDS[name] for name in network.algorithms}
    return network.call + min(time(network, n_bytes, per_node, n_nodes) for time in times.values())


def gather_seconds(network: Network, n_bytes: float, n_ranks: int) -> float:
    """Time to gather a tensor from neighbouring ranks, or to reduce and scatter it, by a ring."""
    if n_ranks == 1 or n_bytes == 0:
        return 0.0
    per_node = min(n_ranks, network.ranks_per_node)
    return network.call + _ring(network, n_bytes, per_node, math.ceil(n_ranks / per_node)) / 2


def _ring(network: Network, n_bytes: float, per_node: int, n_nodes: int) -> float:
    """2 [(R − N) α_i + N α_o] + 2 (R − 1) / R · n / min(B_i, g B_o); several rings use all NICs."""
    n_ranks = per_node * n_nodes
    if n_nodes == 1:
        hops, bandwidth = (n_ranks - 1) * network.inside.latency, network.inside.bandwidth
    else:
        hops = (n_ranks - n_nodes) * network.inside.latency + n_nodes * network.between.latency
        bandwidth = _of_rings(network, per_node)
    return 2 * hops + ring_bytes(n_bytes, n_ranks) / bandwidth


def _tree(network: Network, n_bytes: float, per_node: int, n_nodes: int) -> float:
    """2 [(g − 1) α_i + ⌈log₂ N⌉ α_o] + 2 n / min(B_i, g B_o): two trees of nodes, chains inside."""
    hops = (per_node - 1) * network.inside.latency
    if n_nodes == 1:
        return 2 * hops + 2 * n_bytes / network.inside.bandwidth
    hops += math.ceil(math.log2(n_nodes)) * network.between.latency
    return 2 * hops + 2 * n_bytes / _of_rings(network, per_node)


def _hierarchical(network: Network, n_bytes: float, per_node: int, n_nodes: int) -> float:
    """2 (g − 1) (α_i + n / (g B_i)) + 2 ⌈log₂ N⌉ α_o + 2 (N − 1) / N · n / (g B_o).

    Reduced and scattered inside each node, summed by halving and doubling between nodes, every
    device its part, and gathered inside.
    """
    inside = (per_node - 1) * network.inside.latency
    inside += gather_bytes(n_bytes, per_node) / network.inside.bandwidth
    if n_nodes == 1:
        return 2 * inside
    between = 2 * math.ceil(math.log2(n_nodes)) * network.between.latency
    return (
        2 * inside + between + ring_bytes(n_bytes / per_node, n_nodes) / network.between.bandwidth
    )


def _of_rings(network: Network, per_node: int) -> float:
    """Bandwidth of a ring or tree through all nodes, as many side by side as nodes have NICs."""
    return min(network.inside.bandwidth, per_node * network.between.bandwidth)


_SECONDS = {"ring": _ring, "tree": _tree, "hierarchical": _hierarchical}
