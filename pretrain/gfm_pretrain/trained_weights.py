"""What a rank owns of a model in training: weights, averages and moments."""

from collections.abc import Callable, Collection, Iterable, Mapping

import torch
from gfm_models.potential import MultiHeadPotential
from torch import Tensor, nn
from torch_ema import ExponentialMovingAverage

from gfm_pretrain.process import World
from gfm_pretrain.reduction.reduction import Reduction
from gfm_pretrain.reduction.shards import is_divided, piece, whole
from gfm_pretrain.replicas import check_replicas
from gfm_pretrain.snapshots.state import State, part_state, restore_part
from gfm_pretrain.training_options import TrainingOptions

BETAS = (0.9, 0.99)

Copy = Callable[[str, Tensor], Tensor]


def _clone(_: str, tensor: Tensor) -> Tensor:
    return tensor.clone()


class TrainedWeights:
    """The backbone, or this rank's piece of it, and the heads it owns, with all that moves them.

    All methods are called on every rank.
    """

    def __init__(
        self,
        potential: MultiHeadPotential,
        options: TrainingOptions,
        *,
        owners: Mapping[str, tuple[int, ...]],
        reduction: Reduction,
        world: World,
    ) -> None:
        self.potential = potential
        self.options = options
        self.owners = owners
        self.reduction = reduction
        self.world = world
        self.optimizer = _optimizer(potential, weight_decay=options.weight_decay)
        self.average = ExponentialMovingAverage(potential.parameters(), decay=options.ema_decay)

    @property
    def parts(self) -> list[str]:
        """The parts of the model on this rank: `backbone`, `heads/<name>`."""
        return list(self._parts())

    def update(self, norm: float, rate: float) -> None:
        """Clip by the norm of the whole gradient, then move weights and averages."""
        factor = min(1.0, self.options.clip_norm / (norm + 1e-12))
        for parameter in self.potential.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.average.update()

    def state(self, copy: Copy = _clone) -> dict[str, dict[str, Tensor]]:
        """What a snapshot holds of the parts this rank writes: each part has one writer.

        Args:
            copy: Makes a copy that the training does not change, under a name of its own.
        """
        held = self._held()
        return self._written({part: named.items() for part, named in held.items()}, copy)

    def averages(self, parts: Collection[str], copy: Copy = _clone) -> dict[str, dict[str, Tensor]]:
        """Averaged weights of those of the parts that this rank writes.

        Args:
            parts: Names, the same on every rank.
            copy: As for `state`.
        """
        averages = self._averages()
        tensors = {
            part: ((name, averages[parameter]) for name, parameter in named.items())
            for part, named in self._parts().items()
            if part in parts
        }
        return self._written(tensors, lambda key, tensor: copy(f"average/{key}", tensor))

    def add_to_average(self, parameter: nn.Parameter, change: Tensor) -> None:
        """Change what is published of a weight; what is trained stays as it is."""
        average = self._averages()[parameter]
        average.add_(change.to(average))

    def check_replicas(self, *, step: int) -> None:
        """Compare weights, averages and moments with those of the other ranks that hold them.

        Raises:
            ReplicaError: some bits differ; the same on every rank.
        """
        pieces = self.reduction.pieces_of_backbone
        mine = {
            part: {name: piece(tensor) for name, tensor in held.items()}
            for part, held in self._held().items()
        }
        mine[pieces[self.reduction.piece]] = mine.pop("backbone")
        parts = [*pieces, *(f"heads/{name}" for name in self.owners)]
        check_replicas(self.world, parts, mine, when=f"step {step}")

    def restore(self, state: State) -> None:
        """Put back parts as `state` gave them; those it does not have stay as they are."""
        averages = self._averages()
        for part, named in self._parts().items():
            if part in state:
                restore_part(state[part], named, averages, self.optimizer)

    def _held(self) -> dict[str, dict[str, Tensor]]:
        """All that makes up the state of the parts on this rank."""
        averages = self._averages()
        return {
            part: dict(part_state(named, averages, self.optimizer))
            for part, named in self._parts().items()
        }

    def _parts(self) -> dict[str, dict[str, nn.Parameter]]:
        modules = {"backbone": self.potential.backbone} | {
            f"heads/{name}": self.potential.head(name) for name in self.potential.head_names
        }
        return {part: dict(module.named_parameters()) for part, module in modules.items()}

    def _averages(self) -> dict[Tensor, Tensor]:
        return dict(zip(self.potential.parameters(), self.average.shadow_params, strict=True))

    def _written(
        self, tensors: Mapping[str, Iterable[tuple[str, Tensor]]], copy: Copy
    ) -> dict[str, dict[str, Tensor]]:
        """Copies of what this rank writes; every rank helps to put together what is spread."""
        state: dict[str, dict[str, Tensor]] = {}
        with self.world.pulse.doing("gathering what is written", waits=True):
            for part, named in tensors.items():
                for name, tensor in named:
                    complete = whole(tensor)
                    if self._writes(part):
                        state.setdefault(part, {})[name] = copy(f"{part}/{name}", complete)
        return state

    def _writes(self, part: str) -> bool:
        if part == "backbone":
            return self.world.rank == 0
        return self.owners[part.removeprefix("heads/")][0] == self.world.rank


def _optimizer(potential: MultiHeadPotential, *, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW; matrices decay, vectors do not. Divided weights are updated by themselves."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in potential.parameters():
        if parameter.requires_grad:
            kind = (is_divided(parameter), parameter.ndim > 1)
            groups.setdefault(kind, []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "weight_decay": weight_decay if is_matrix else 0.0,
                "fused": not divided,
            }
            for (divided, is_matrix), parameters in groups.items()
        ],
        betas=BETAS,
    )
