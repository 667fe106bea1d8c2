"""What a rank of a real run holds and was to hold: for holding the plan against it."""

from collections.abc import Iterable

from torch import Tensor

from gfm_pretrain.trainer import Trainer


def held_parameters(trainer: Trainer) -> int:
    """Parameters of the backbone and the heads on this rank."""
    return sum(parameter.numel() for parameter in trainer.potential.parameters())


def held_bytes(trainer: Trainer) -> dict[str, int]:
    """Bytes of this rank's tensors, each piece of memory counted once, by what they are."""
    parameters = list(trainer.potential.parameters())
    states = trainer.optimizer.state.values()
    aside = trainer.average.collected_params or []
    tensors = {
        "weights": parameters,
        "gradients": [p.grad for p in parameters if p.grad is not None],
        "Adam's moments": [t for s in states for t in s.values() if t.ndim],
        "average": trainer.average.shadow_params,
        "weights set aside": aside,
    }
    return {name: _bytes(group) for name, group in tensors.items()}


def _bytes(tensors: Iterable[Tensor]) -> int:
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())
