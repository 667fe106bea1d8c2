"""What all ranks know of a step once its gradients are summed: the same, so they decide alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gfm_pretrain.process import World, all_reduce_sum

ACTIVITIES = ("data", "forward", "backward", "wait", "update")
"""What the seconds of a step are spent on; `wait` is for other ranks and the network."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Facts of a step that every rank has to the last bit."""

    losses: Mapping[str, float]
    """Of every head in the order of the run, unweighted; 0 where it has no structures."""
    squared_norms: Mapping[str, float]
    """Of the gradient of each part: `backbone` and the heads."""
    seconds: Mapping[str, float]
    """Mean over ranks by activity."""
    bytes_sent: float
    """Mean over ranks of what was sent for gradients."""
    clock: float
    """Training seconds as rank 0 counts them."""
    stop: bool
    """Whether any rank was asked to stop."""
    written: bool
    """Whether all ranks have written their part of what is written beside the training."""

    @property
    def norm(self) -> float:
        """Norm of the gradient of the whole model, the backbone and each head counted once."""
        return sum(self.squared_norms.values()) ** 0.5


def agree(
    world: World,
    heads: Sequence[str],
    *,
    losses: Mapping[str, Float[Tensor, ""]],
    squared_norms: Mapping[str, Float[Tensor, ""]],
    seconds: Mapping[str, float],
    bytes_sent: int,
    clock: float,
    stop: bool,
    written: bool,
) -> Agreement:
    """Put together what each rank knows of a step, in one message. Call on every rank.

    Args:
        world: All ranks.
        heads: Of the run, the same on every rank.
        losses: This rank's part of the losses; heads it has no structures of may be missing.
        squared_norms: This rank's share, see `Reduction.squared_norms`.
        seconds: Of this rank, by activity.
        bytes_sent: By this rank.
        clock: This rank's training seconds; rank 0's count.
        stop: Whether this rank was asked to stop.
        written: Whether this rank has written its part of what is written beside the training.
    """
    parts = ("backbone", *heads)
    numbers = torch.zeros(
        len(heads) + len(parts) + len(ACTIVITIES) + 4, dtype=torch.float64, device=world.device
    )
    of_heads, of_parts, of_time, rest = numbers.split([len(heads), len(parts), len(ACTIVITIES), 4])
    for row, name in enumerate(heads):
        if name in losses:
            of_heads[row] = losses[name]
    for row, name in enumerate(parts):
        if name in squared_norms:
            of_parts[row] = squared_norms[name]
    of_time += numbers.new_tensor([seconds.get(name, 0.0) for name in ACTIVITIES])
    rest += numbers.new_tensor([bytes_sent, clock * (world.rank == 0), float(stop), float(written)])
    all_reduce_sum(world, numbers)
    found = [part.tolist() for part in (of_heads, of_parts, of_time / world.size, rest)]
    return Agreement(
        losses=dict(zip(heads, found[0], strict=True)),
        squared_norms=dict(zip(parts, found[1], strict=True)),
        seconds=dict(zip(ACTIVITIES, found[2], strict=True)),
        bytes_sent=found[3][0] / world.size,
        clock=found[3][1],
        stop=found[3][2] > 0,
        written=found[3][3] == world.size,
    )
