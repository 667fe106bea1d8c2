"""Layers with their adjoints: derivatives without autograd, for inference.

`layer.with_adjoint(x)` returns what `layer(x)` does, and the function that turns the gradient of
anything by that into its gradient by x. Forward and adjoint stand side by side in each layer, and
share what both need. Nothing can be differentiated further, and weights get no gradient.
"""

from collections.abc import Callable

from torch import Tensor

Adjoint = Callable[[Tensor], Tensor]
"""From the gradient by a layer's output to that by its input. May be called once."""

LastAdjoint = Callable[[Tensor], Tensor | None]
"""One that returns nothing where its layer's input does not depend on the structure."""
