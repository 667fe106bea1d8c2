"""Time of the products at the nodes: the fused operation against plain torch.

    python benchmarks/node_product.py [--repetitions N]

In float32, on one thread, degree 1 out. Three kinds of work: `value`; `gradient` (value and
gradient by features and weights); `training` (the same, and the gradient of a loss of both, as in
training on forces). Each repetition times every variant once, in rotating order, and ratios are of
times from the same repetition. Times are of the processor. The result is checked beforehand.
"""

import argparse
from collections.abc import Callable

import torch
from edge_operation import spread, time_interleaved
from gfm_models.harmonics import n_harmonics
from gfm_models.kernels.backend import Backend
from gfm_models.layers.sphere import SphereProduct
from gfm_pretrain.table import text_table
from machine import describe_machine
from torch import Tensor

BACKENDS: tuple[Backend, ...] = ("reference", "fused")
L_OUT = 1
CORRELATION = 3
AGREEMENT = 1e-5
"""Largest difference between the two that counts as rounding, relative to the largest value."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=15, metavar="N", help="at least 1 (15)")
    repetitions = max(1, parser.parse_args().repetitions)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{describe_machine()}; {repetitions} repetitions\n")
    rows = [
        row
        for l_in in (2, 3)
        for channels in (64, 128)
        for n_nodes in (21, 192, 1000)
        for row in case_rows(l_in, channels, n_nodes, repetitions)
    ]
    header = ("l_in", "channels", "nodes", "work", "variant", "min ms", "median", "max")
    print(text_table((*header, "× reference min", "median", "max"), rows))


def case_rows(l_in: int, channels: int, n_nodes: int, repetitions: int) -> list[tuple[object, ...]]:
    """Rows of the table for one size."""
    module = SphereProduct(l_in=l_in, l_out=L_OUT, correlation=CORRELATION, dtype=torch.float32)
    features = torch.randn(n_nodes, n_harmonics(l_in), channels).requires_grad_()
    weights = torch.randn(n_nodes, CORRELATION, channels).requires_grad_()
    cotangent = torch.randn(n_nodes, n_harmonics(L_OUT), channels).requires_grad_()
    arguments = (module, features, weights, cotangent)
    check(training(backend, *arguments) for backend in BACKENDS)
    rows = []
    for work in (value, gradient, training):
        calls = [call(work, backend, arguments) for backend in BACKENDS]
        times = time_interleaved(calls, repetitions)
        for backend, own, gain in zip(BACKENDS, times, times[0] / times, strict=True):
            case = (l_in, channels, n_nodes, work.__name__, backend)
            rows.append((*case, *spread(1e3 * own, digits=2), *spread(gain, digits=1)))
    return rows


def call(
    work: Callable[..., object], backend: Backend, arguments: tuple[object, ...]
) -> Callable[[], object]:
    """The work with its arguments."""
    return lambda: work(backend, *arguments)


def value(
    backend: Backend, module: SphereProduct, features: Tensor, weights: Tensor, _: Tensor
) -> Tensor:
    """The product alone."""
    with torch.no_grad():
        return module(features, weights, backend=backend)


def gradient(
    backend: Backend, module: SphereProduct, features: Tensor, weights: Tensor, cotangent: Tensor
) -> list[Tensor]:
    """Product and gradient."""
    out = module(features, weights, backend=backend)
    return [out, *torch.autograd.grad(out, (features, weights), cotangent)]


def training(
    backend: Backend, module: SphereProduct, features: Tensor, weights: Tensor, cotangent: Tensor
) -> list[Tensor]:
    """Product, gradient g, and the gradient of Σ (out² + g²) / 2 by everything."""
    out = module(features, weights, backend=backend)
    inputs = (features, weights)
    first = [out, *torch.autograd.grad(out, inputs, cotangent, create_graph=True)]
    residuals = [tensor.detach() for tensor in first]
    return [*residuals, *torch.autograd.grad(first, (*inputs, cotangent), residuals)]


def check(results: object) -> None:
    """Compare with the reference, which comes first.

    Raises:
        RuntimeError: they differ.
    """
    reference, fused = results  # pyright: ignore[reportGeneralTypeIssues] (there are two)
    for tensor, expected in zip(fused, reference, strict=True):
        difference = float((tensor - expected).abs().max() / expected.abs().max())
        if not difference < AGREEMENT:
            raise RuntimeError(f"the fused product differs by {difference:.1e}")


if __name__ == "__main__":
    main()
