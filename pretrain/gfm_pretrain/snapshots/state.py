"""What there is to remember of a model: its weights, their averages, their moments."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from gfm_pretrain.reduction.shards import copy_whole, divided_like

State = Mapping[str, Mapping[str, Tensor]]
"""By part (`backbone`, `heads/<name>`), then by tensor name."""

MOMENTS = ("exp_avg", "exp_avg_sq")


def part_state(
    named: Mapping[str, Tensor],
    averages: Mapping[Tensor, Tensor],
    optimizer: torch.optim.Optimizer,
) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of one part; moments are zero before the first step."""
    for name, parameter in named.items():
        of_parameter = optimizer.state.get(parameter, {})
        yield f"weight/{name}", parameter
        yield f"average/{name}", averages[parameter]
        for moment in MOMENTS:
            yield f"{moment}/{name}", of_parameter.get(moment, torch.zeros_like(parameter))
        yield f"step/{name}", of_parameter.get("step", torch.zeros(()))


def restore_part(
    state: Mapping[str, Tensor],
    named: Mapping[str, Tensor],
    averages: Mapping[Tensor, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Put back what `part_state` gave, whole."""
    for name, parameter in named.items():
        copy_whole(parameter, state[f"weight/{name}"])
        copy_whole(averages[parameter], state[f"average/{name}"])
        optimizer.state[parameter] = {
            moment: divided_like(parameter, state[f"{moment}/{name}"]).clone() for moment in MOMENTS
        } | {"step": state[f"step/{name}"].clone()}


def averages_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The averaged weights of a part, by their names in the model."""
    prefix = "average/"
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
