"""The most memory that tensors took at one time, on any device, whoever allocates it."""

import weakref
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):
    """Counts the memory of tensors that are made meanwhile, and when it is given back.

    What an operator takes for itself and gives back before it returns is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held = 0
        self.peak = 0
        self._known: weakref.WeakSet = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Run an operator and note what it made."""
        given = {id(s) for s in map(_storage, tree_leaves((args, kwargs))) if s is not None}
        made = func(*args, **(kwargs or {}))
        for storage in map(_storage, tree_leaves(made)):
            if storage is not None and id(storage) not in given and storage not in self._known:
                self._add(storage)
        return made

    def _add(self, storage: Any) -> None:
        n_bytes = storage.nbytes()
        self._known.add(storage)
        self.held += n_bytes
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._give_back, n_bytes)

    def _give_back(self, n_bytes: int) -> None:
        self.held -= n_bytes


def _storage(value: Any) -> Any:
    return value.untyped_storage() if isinstance(value, Tensor) else None
