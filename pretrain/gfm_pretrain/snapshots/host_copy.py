"""Copies of tensors in the memory of the host, so that training can go on and change them."""

import torch
from torch import Tensor


class HostCopy:
    """Copies tensors into memory that is kept for the next time.

    Beside an accelerator the memory is pinned, and copies are under way until `wait`.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def __call__(self, key: str, tensor: Tensor) -> Tensor:
        """A copy that stays as it is until something is copied under the same key."""
        kept = self._kept.get(key)
        if kept is None or kept.shape != tensor.shape or kept.dtype != tensor.dtype:
            pinned = tensor.device.type != "cpu"
            kept = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)
            self._kept[key] = kept
        return kept.copy_(tensor.detach(), non_blocking=True)

    def wait(self) -> None:
        """Wait for the copies."""
        if any(copy.is_pinned() for copy in self._kept.values()):
            torch.accelerator.synchronize()
