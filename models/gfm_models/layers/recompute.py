"""Values that are computed again in backward passes instead of kept: less memory, more time."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Computed = Callable[..., Tensor]


def recomputed(
    function: Computed, inputs: Sequence[Tensor], parameters: Sequence[nn.Parameter]
) -> Tensor:
    """function(*inputs), of which nothing but `inputs` is kept for its derivatives.

    Training on forces differentiates twice. torch.utils.checkpoint computes again what the first
    derivative needs, but that derivative is recorded in its turn, and the record keeps all that was
    computed again. Here the first derivative is an operation that keeps nothing either: its own
    derivative begins with `inputs` once more. A third derivative is refused.

    Args:
        function: Deterministic; its result depends on `inputs`, on `parameters`, and on nothing
            else that is differentiated.
        inputs: Floating-point tensors.
        parameters: Leaves that `function` uses by itself.
    """
    trained = [p for p in parameters if p.requires_grad]
    return _Value.apply(function, len(inputs), *inputs, *trained)


class _Value(torch.autograd.Function):
    """y = f(x, θ)."""

    @staticmethod
    def forward(ctx: Any, function: Computed, n_inputs: int, *tensors: Tensor) -> Tensor:
        ctx.function, ctx.n_inputs = function, n_inputs
        ctx.save_for_backward(*tensors)
        return function(*tensors[:n_inputs])

    @staticmethod
    def backward(ctx: Any, *weights: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = weights
        wanted = ctx.needs_input_grad[2:]
        found = _Gradient.apply(ctx.function, ctx.n_inputs, wanted, weight, *ctx.saved_tensors)
        return None, None, *_spread(found, wanted)


class _Gradient(torch.autograd.Function):
    """g = v · ∂f/∂(x, θ), of those that are wanted."""

    @staticmethod
    def forward(
        ctx: Any,
        function: Computed,
        n_inputs: int,
        wanted: Sequence[bool],
        weight: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.function, ctx.n_inputs, ctx.wanted = function, n_inputs, wanted
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(weight, *tensors)
        leaves = _leaves(tensors, n_inputs, wanted)
        return _differentiate(function, n_inputs, leaves, weight, create_graph=False)

    @staticmethod
    def backward(ctx: Any, *weights: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "values that are computed again have no third derivative; keep them instead, "
                "with recompute_in_blocks(None)"
            )
        weight, *tensors = ctx.saved_tensors
        v = weight.detach().requires_grad_()
        leaves = _leaves(tensors, ctx.n_inputs, ctx.wanted)
        gradients = _differentiate(ctx.function, ctx.n_inputs, leaves, v, create_graph=True)
        used = [
            (gradient, w)
            for gradient, w in zip(gradients, weights, strict=True)
            if w is not None and gradient.requires_grad
        ]
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        of_v, *of_leaves = torch.autograd.grad(
            [gradient for gradient, _ in used],
            [v, *wanted],
            [w for _, w in used],
            allow_unused=True,
        )
        return None, None, None, of_v, *_spread(of_leaves, ctx.wanted)


def _leaves(tensors: Sequence[Tensor], n_inputs: int, wanted: Sequence[bool]) -> list[Tensor]:
    """Inputs cut off from where they came from; the parameters after them are leaves already."""
    inputs = zip(tensors[:n_inputs], wanted[:n_inputs], strict=True)
    return [*(t.detach().requires_grad_(w) for t, w in inputs), *tensors[n_inputs:]]


def _differentiate(
    function: Computed, n_inputs: int, leaves: Sequence[Tensor], v: Tensor, *, create_graph: bool
) -> tuple[Tensor, ...]:
    """Gradients of v · function by the leaves that have one."""
    with torch.enable_grad():
        return torch.autograd.grad(
            function(*leaves[:n_inputs]),
            [leaf for leaf in leaves if leaf.requires_grad],
            v,
            create_graph=create_graph,
            materialize_grads=True,
        )


def _spread(found: Sequence[Tensor | None], wanted: Sequence[bool]) -> list[Tensor | None]:
    """What was found, with None in the place of what was not wanted."""
    remaining = iter(found)
    return [next(remaining) if is_wanted else None for is_wanted in wanted]
