"""The order of edges in plain torch: for accelerators, and what `edge_order.c` must agree with."""

import torch
from jaxtyping import Int
from torch import Tensor

from gfm_models.kernels.library import order_error


def order_by_torch(
    edge_index: Int[Tensor, "2 edges"], *, n_senders: int, n_receivers: int
) -> Int[Tensor, " order"]:
    """What `order_edges` returns, made on the device of `edge_index`.

    The device is waited for once, to learn whether the edges are as they must be; not while a CUDA
    graph is captured, when nothing can be waited for: the graph was computed before, uncaptured.

    Raises:
        ValueError: as `order_edges`.
    """
    senders, receivers = edge_index
    if not _is_captured(edge_index.device):
        _check(senders, receivers, n_senders=n_senders, n_receivers=n_receivers)
    sorted_senders, by_sender = torch.sort(senders, stable=True)
    return torch.cat(
        [
            senders.new_full((1,), n_senders),
            senders.new_full((1,), n_receivers),
            edge_index.flatten(),
            by_sender,
            _begins(receivers, n_receivers),
            _begins(sorted_senders, n_senders),
        ]
    )


def _begins(nodes: Int[Tensor, " edges"], n_nodes: int) -> Int[Tensor, " nodes_and_one"]:
    """Where the edges of each node begin among sorted ones, and where the last ends."""
    return torch.searchsorted(nodes, torch.arange(n_nodes + 1, device=nodes.device))


def _check(senders: Tensor, receivers: Tensor, *, n_senders: int, n_receivers: int) -> None:
    wrong = torch.stack(
        [
            ((senders < 0) | (senders >= n_senders)).any(),
            ((receivers < 0) | (receivers >= n_receivers)).any(),
            (receivers[1:] < receivers[:-1]).any(),
        ]
    )
    for status, is_so in enumerate(wrong.tolist(), start=1):
        if is_so:
            raise order_error(status, n_senders=n_senders, n_receivers=n_receivers)


def _is_captured(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()
