"""Functions as torch operations, `torch.ops.gfm_models.*`: what torch.compile and export see."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import _len_torch_dispatch_stack as len_torch_dispatch_stack

_LIBRARY = torch.library.Library("gfm_models", "DEF")

ACCELERATORS = ("CUDA", "XPU")
"""As torch's dispatcher calls them; ROCm calls itself CUDA."""

PLAIN = (Tensor, nn.Parameter)
"""Classes of tensors that hold their numbers; those of torch.compile and export are others."""

Setup = Callable[[Any, tuple[Any, ...], Any], None]
"""Keeps in the context what the derivative needs, of inputs and output."""


class Operation:
    """A function of tensors that torch does not look into: on the CPU, and elsewhere where said.

    It must not change its arguments nor return one of them. As `torch.library.custom_op`, which
    would load torch.compile, a second of work, at the first call.

    Where nothing but autograd looks on, it is called past torch's dispatcher, whose way through
    Python takes longer than a small sum over neighbours: a training step on eight molecules makes
    45 calls.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        name = function.__name__
        schema = torch.library.infer_schema(function, mutates_args=())
        self.function = function
        _LIBRARY.define(name + schema, tags=torch.Tag.pt2_compliant_tag)
        _LIBRARY.impl(name, function, "CPU")
        self.overload = getattr(torch.ops.gfm_models, name).default
        """What torch calls, and `torch.library.opcheck` takes."""
        self._on_cpu: Callable[..., Any] = function

    def __call__(self, *arguments: Any) -> Any:
        """Call it, through torch where torch.compile, export or a mode is to see it."""
        if torch.compiler.is_compiling() or len_torch_dispatch_stack() or not _are_plain(arguments):
            return self.overload(*arguments)
        return self._on_cpu(*arguments)

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
        self._on_cpu = _differentiable(self.function, backward, setup)


def _differentiable(
    function: Callable[..., Any], backward: Callable[..., Any], setup: Setup
) -> Callable[..., Any]:
    """The function with its derivative, for autograd alone."""

    class Differentiable(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> Any:
            output = function(*arguments)
            setup(ctx, arguments, output)
            return output

        @staticmethod
        def backward(ctx: Any, *cotangents: Tensor) -> Any:
            return backward(ctx, *cotangents)

    return Differentiable.apply


def _are_plain(arguments: tuple[Any, ...]) -> bool:
    """Whether all tensors are numbers in the memory of the CPU, and of no class of somebody's."""
    return all(
        type(argument) in PLAIN and argument.is_cpu
        for argument in arguments
        if isinstance(argument, Tensor)
    )
