"""Fused products at the nodes against the reference: values, derivatives, threads, refusals.

Channels are 1, a vector and a bit more, and several vectors, so that padding is seen.
"""

from collections.abc import Callable
from dataclasses import astuple
from typing import Any

import pytest
import torch
from ase.build import molecule
from gfm_models.backbone import Backbone, BackboneConfig
from gfm_models.graph import edge_vectors, graph_from_atoms
from gfm_models.kernels import product_operations as operations
from gfm_models.kernels.node_product import NodeProduct, all_points, polynomial, slope
from gfm_models.kernels.product_library import product_gradient, product_value
from torch import Tensor

PRODUCT = NodeProduct(2, 1, 3)
N_NODES = 5
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5}
KINDS = [
    *(NodeProduct(1, l_out, 3) for l_out in range(2)),
    *(NodeProduct(2, l_out, 3) for l_out in range(3)),
    *(NodeProduct(3, l_out, 3) for l_out in range(4)),
    *(NodeProduct(2, 1, correlation) for correlation in (1, 2, 4)),
    NodeProduct(0, 0, 3),
]


class Problem:
    """Random features and weights, with a random weight of each component of the product."""

    def __init__(
        self,
        product: NodeProduct = PRODUCT,
        *,
        n_nodes: int = N_NODES,
        channels: int = 3,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        generator = torch.Generator().manual_seed(0)

        def random(n_rows: int) -> Tensor:
            values = torch.randn(n_nodes, n_rows, channels, generator=generator).to(dtype)
            return values.requires_grad_()

        self.product = product
        self.at = random(product.n_in), random(product.correlation)
        self.weight = random(product.n_out)
        self.change = random(product.n_in), random(product.correlation)

    def value(self, *, fused: bool) -> Tensor:
        if fused:
            return operations.node_product(*self.at, product=self.product)
        to_sphere, back = all_points(self.product, self.weight.dtype)
        return back @ polynomial(to_sphere @ self.at[0], self.at[1])

    def derivatives(self, *, fused: bool) -> list[Tensor]:
        """The product, the gradients of w · product, and those of a loss of both; all once more."""
        value = self.value(fused=fused)
        first = torch.autograd.grad((value * self.weight).sum(), self.at, create_graph=True)
        loss = value.square().sum() + sum(
            (f * w.detach()).sum() for f, w in zip(first, self.change, strict=True)
        )
        inputs = (*self.at, self.weight)
        second = torch.autograd.grad(loss, inputs, create_graph=True)
        third = torch.autograd.grad(second, inputs, [2 * g.detach() for g in second])
        return [value, *first, *second, *third]


def assert_same(found: list[Tensor], expected: list[Tensor], dtype: torch.dtype) -> None:
    for one, other in zip(found, expected, strict=True):
        scale = max(1.0, other.abs().max().item()) if other.numel() else 1.0
        torch.testing.assert_close(one, other, atol=TOLERANCES[dtype] * scale, rtol=0)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_same_derivatives_as_the_reference(kind: NodeProduct) -> None:
    problem = Problem(kind)
    assert_same(problem.derivatives(fused=True), problem.derivatives(fused=False), torch.float64)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(
    ("n_nodes", "channels"), [(5, 1), (5, 17), (5, 48), (1, 3), (0, 3), (0, 16)]
)
def test_any_number_of_nodes_and_channels(n_nodes: int, channels: int, dtype: torch.dtype) -> None:
    problem = Problem(n_nodes=n_nodes, channels=channels, dtype=dtype)
    found = problem.derivatives(fused=True)
    assert found[0].shape == (n_nodes, 4, channels)
    assert all(x.is_contiguous() for x in found)
    assert_same(found, problem.derivatives(fused=False), dtype)


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gfm_models.kernels.product_library.WORK_OF_A_THREAD", 1)
    problem = Problem(n_nodes=7, channels=32, dtype=torch.float32)
    results = []
    for n_threads in (1, 2, 3, 40, 1):
        torch.set_num_threads(n_threads)
        try:
            results.append(problem.derivatives(fused=True))
        finally:
            torch.set_num_threads(1)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_arguments_need_not_be_contiguous() -> None:
    problem = Problem(channels=16)
    expected = problem.derivatives(fused=True)
    features, weights = (x.detach().mT.contiguous().mT.requires_grad_() for x in problem.at)
    assert not features.is_contiguous()
    problem.at = features, weights
    assert_same(problem.derivatives(fused=True), expected, torch.float64)


def test_plain_functions_are_those_that_torch_differentiates() -> None:
    problem = Problem(channels=16)
    value, *gradient = problem.derivatives(fused=True)[:3]
    at = tuple(x.detach() for x in problem.at)
    assert torch.equal(product_value(*at, product=PRODUCT), value)
    found = product_gradient(problem.weight.detach(), *at, product=PRODUCT)
    assert all(torch.equal(a, b) for a, b in zip(found, gradient, strict=True))


def test_derivatives_of_a_polynomial() -> None:
    f = torch.linspace(-1, 1, 6, dtype=torch.float64).view(1, 6, 1)
    weights = torch.tensor([2.0, 3.0, 5.0, 7.0], dtype=torch.float64).view(1, 4, 1)
    expected = [
        2 * f + 3 * f**2 + 5 * f**3 + 7 * f**4,
        2 + 6 * f + 15 * f**2 + 28 * f**3,
        6 + 30 * f + 84 * f**2,
        30 + 168 * f,
        168 + 0 * f,
        0 * f,
    ]
    for derivative, values in enumerate(expected):
        torch.testing.assert_close(polynomial(f, weights, derivative=derivative), values)
    assert [slope(3, d) for d in range(4)] == [1, 3, 6, 6]


# The operations one by one, for torch.compile, export and higher derivatives.


def calls(channels: int = 8) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Every operation with arguments for it."""
    problem = Problem(n_nodes=2, channels=channels)
    end = list(astuple(PRODUCT))
    at, change, weight = problem.at, problem.change, problem.weight
    return {
        "value": (operations.node_product_value, (*at, end)),
        "gradient": (operations.node_product_gradient, (weight, *at, end)),
        "tangent": (operations.node_product_tangent, (*at, *change, end)),
        "curvature": (operations.node_product_curvature, (weight, *at, *change, end)),
    }


@pytest.mark.parametrize("channels", [3, 8])
@pytest.mark.parametrize("name", ["value", "gradient", "tangent", "curvature"])
def test_operations_are_registered_soundly(name: str, channels: int) -> None:
    operation, arguments = calls(channels)[name]
    torch.library.opcheck(operation.overload, arguments)


@pytest.mark.parametrize("name", ["value", "gradient", "tangent", "curvature"])
def test_every_operation_has_its_derivatives(name: str) -> None:
    """Together they are closed: any number of derivatives is right."""
    operation, arguments = calls(channels=2)[name]
    *tensors, end = arguments

    def of_tensors(*moved: Tensor) -> tuple[Tensor, ...]:
        return operation(*moved, end)

    assert torch.autograd.gradcheck(of_tensors, tensors, fast_mode=True)
    assert torch.autograd.gradgradcheck(of_tensors, tensors, fast_mode=True)


def test_a_compiled_function_sees_them() -> None:
    operation, arguments = calls()["value"]
    arguments = (*(x.detach() for x in arguments[:-1]), arguments[-1])
    graphs = []

    def keep(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(
        lambda *a: 2 * operation(*a), backend=keep, fullgraph=True, dynamic=True
    )
    assert torch.equal(compiled(*arguments), 2 * operation(*arguments))
    assert "gfm_models.node_product_value" in str(graphs[0].graph)


# Where it is used, and what it refuses.


def test_back_ends_that_the_backbone_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes follow the edges: where the reference is asked for, nothing fused is called."""
    called = []
    real = operations.node_product

    def spy(*arguments: Any, **named: Any) -> Tensor:
        called.append(named["product"])
        return real(*arguments, **named)

    monkeypatch.setattr("gfm_models.layers.sphere.node_product", spy)
    graph = graph_from_atoms(molecule("H2O"), cutoff=5.0)
    backbone = Backbone(BackboneConfig(channels=2))
    backbone.backend = "reference"
    backbone(graph, edge_vectors(graph))
    assert called == []
    backbone.backend = "fused"
    backbone(graph, edge_vectors(graph))
    assert called == [NodeProduct(3, 1, 2), NodeProduct(3, 0, 2)]


def test_tensors_of_another_shape_or_precision() -> None:
    problem = Problem(channels=8)
    features, weights = (x.detach() for x in problem.at)
    with pytest.raises(ValueError, match=r"of shape \[5, 9, 8\] .* got .* \[5, 8, 8\]"):
        product_value(features[:, 1:], weights, product=PRODUCT)
    with pytest.raises(ValueError, match=r"of shape \[5, 3, 8\] .* got .* \[4, 3, 8\]"):
        product_value(features, weights[1:], product=PRODUCT)
    with pytest.raises(ValueError, match=r"a torch.float64 tensor .* got torch.float32"):
        product_value(features, weights.float(), product=PRODUCT)
    with pytest.raises(ValueError, match=r"of shape \[5, 4, 8\] .* got .* \[5, 3, 8\]"):
        product_gradient(problem.weight.detach()[:, 1:], features, weights, product=PRODUCT)
    with pytest.raises(ValueError, match=r"on the CPU here, got .* on 'meta'"):
        product_value(features.to("meta"), weights, product=PRODUCT)
