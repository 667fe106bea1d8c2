"""What a rank of a real run holds and was to hold: for holding the plan against it."""

from collections.abc import Iterable

from torch import Tensor

from gfm_pretrain.reduction.shards import piece
from gfm_pretrain.trainer import Trainer


def held_parameters(trainer: Trainer) -> int:
    """Parameters of the backbone, or of its piece, and of the heads on this rank."""
    return sum(piece(parameter).numel() for parameter in trainer.potential.parameters())


def held_bytes(trainer: Trainer) -> dict[str, int]:
    """Bytes of this rank's tensors between two steps, by what they are, no memory counted twice."""
    parameters = list(trainer.potential.parameters())
    states = trainer.weights.optimizer.state.values()
    aside = trainer.weights.average.collected_params or []
    tensors = {
        "weights": parameters,
        "gradients": [p.grad for p in parameters if p.grad is not None],
        "Adam's moments": [t for s in states for t in s.values() if t.ndim],
        "average": trainer.weights.average.shadow_params,
        "weights set aside": aside,
    }
    return {name: _bytes(group) for name, group in tensors.items()}


def _bytes(tensors: Iterable[Tensor]) -> int:
    storages = [piece(tensor).untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
