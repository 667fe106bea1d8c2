"""A sum of which each rank keeps a piece, for gloo, which has none that is worth the name."""

import torch
import torch.distributed as dist
from torch import Tensor


class DealAndSum:
    """Each rank sends every other its piece, and sums what it got in the order of ranks.

    gloo's own reduce-scatter sums everything on every rank and throws most of it away: it sends
    2 (n - 1) / n of the whole. Here it is (n - 1) / n, as of a ring.

    FSDP takes it through `set_custom_reduce_scatter`.
    """

    def allocate(self, size, *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Memory for what is sent or kept."""
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(
        self,
        output_tensor: Tensor,
        input_tensor: Tensor,
        group: dist.ProcessGroup,
        op: object,
        async_op: bool = False,
    ) -> None:
        """Sum `input_tensor` over `group`; `output_tensor` is this rank's piece of it."""
        assert op == dist.ReduceOp.SUM, f"gradients are summed, got {op}"
        assert not async_op
        received = torch.empty_like(input_tensor)
        dist.all_to_all_single(received, input_tensor, group=group)
        torch.sum(received.view(group.size(), -1), 0, out=output_tensor)
