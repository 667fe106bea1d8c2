"""Functions as torch operations, `torch.ops.gfm_models.*`: what torch.compile and export see."""

from collections.abc import Callable
from typing import Any

import torch

_LIBRARY = torch.library.Library("gfm_models", "DEF")

ACCELERATORS = ("CUDA", "XPU")
"""As torch's dispatcher calls them; ROCm calls itself CUDA."""

Setup = Callable[[Any, tuple[Any, ...], Any], None]
"""Keeps in the context what the derivative needs, of inputs and output."""


class Operation:
    """A function of tensors that torch does not look into: on the CPU, and elsewhere where said.

    It must not change its arguments nor return one of them. As `torch.library.custom_op`, which
    would load torch.compile, a second of work, at the first call.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        name = function.__name__
        schema = torch.library.infer_schema(function, mutates_args=())
        self.function = function
        _LIBRARY.define(name + schema, tags=torch.Tag.pt2_compliant_tag)
        _LIBRARY.impl(name, function, "CPU")
        self.overload = getattr(torch.ops.gfm_models, name).default
        """What torch calls, and `torch.library.opcheck` takes."""

    def __call__(self, *arguments: Any) -> Any:
        """Call it through torch."""
        return self.overload(*arguments)

    def on_accelerators(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate the function that does this for tensors on a GPU; it may be the same one."""
        for key in ACCELERATORS:
            _LIBRARY.impl(self.function.__name__, function, key)
        return function

    def shapes(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate a function that returns empty tensors of the right shapes."""
        torch.library.register_fake(self.overload, function, lib=_LIBRARY)
        return function

    def derivative(self, backward: Callable[..., Any], *, setup: Setup) -> None:
        """Gradients by the inputs, from what `setup` kept and those by the outputs."""
        torch.library.register_autograd(self.overload, backward, setup_context=setup, lib=_LIBRARY)
