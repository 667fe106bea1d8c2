"""The fused back end against the reference: values, all derivatives, threads, and what it refuses.

Channels are 1, a vector and a bit more, and several vectors, so that padding is seen.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gfm_models.harmonics import n_harmonics
from gfm_models.kernels import fused
from gfm_models.kernels.backend import Backend
from gfm_models.kernels.edge_library import edge_library
from gfm_models.kernels.edge_operation import edge_operation, prepare_edges
from gfm_models.kernels.fused import flatten_paths
from gfm_models.kernels.paths import Path, natural_paths
from torch import Tensor

L_IN, L_EDGE = 1, 2
PATHS = natural_paths(l_in=L_IN, l_edge=L_EDGE, l_out=2)
N_NODES = 5
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5}
GRAPHS = {
    "no nodes": (0, []),
    "no edges": (3, []),
    "one edge": (2, [(1, 0)]),
    "itself": (1, [(0, 0), (0, 0)]),
    "far apart": (9, [(8, 0), (0, 8)]),
    "crowded": (2, [(0, 0)] * 11 + [(1, 0)] * 30 + [(0, 1)] * 3),
}
"""Nodes, and sender and receiver of each edge."""


class Problem:
    """Random R, Y and h, with a random weight of each component of A."""

    def __init__(
        self,
        graph: tuple[int, list[tuple[int, int]]] | None = None,
        *,
        channels: int = 3,
        dtype: torch.dtype = torch.float64,
        paths: tuple[Path, ...] = PATHS,
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        self.paths = paths
        if graph is None:
            receivers = torch.randint(N_NODES, (40,), generator=generator).sort().values
            senders = torch.randint(N_NODES, (40,), generator=generator)
            self.n_nodes, self.edge_index = N_NODES, torch.stack([senders, receivers])
        else:
            self.n_nodes, pairs = graph
            self.edge_index = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.contiguous()

        self.n_receivers = self.n_nodes

        def random(*shape: int) -> Tensor:
            values = torch.randn(shape, generator=generator, dtype=torch.float64)
            return values.to(dtype).requires_grad_()

        n_edges = self.edge_index.shape[1]
        l_in, l_edge, l_out = (max(column) for column in zip(*map(degrees, paths), strict=True))
        self.at = (
            random(n_edges, len(paths), channels),
            random(n_edges, n_harmonics(l_edge)),
            random(self.n_nodes, n_harmonics(l_in), channels),
        )
        self.weight = random(self.n_nodes, n_harmonics(l_out), channels)
        self.second_weights = tuple(random(*x.shape).detach() for x in self.at)

    def value(self, backend: Backend) -> Tensor:
        edges = prepare_edges(
            self.edge_index, n_nodes=self.n_nodes, n_receivers=self.n_receivers, backend=backend
        )
        return edge_operation(*self.at, edges=edges, paths=self.paths)

    def derivatives(self, backend: Backend) -> list[Tensor]:
        """A, the gradients of w · A, and those of a loss of both, as in training on forces."""
        value = self.value(backend)
        first = torch.autograd.grad((value * self.weight).sum(), self.at, create_graph=True)
        loss = value.square().sum() + sum(
            (f * w).sum() for f, w in zip(first, self.second_weights, strict=True)
        )
        second = torch.autograd.grad(loss, (*self.at, self.weight))
        return [value, *first, *second]


def degrees(path: Path) -> tuple[int, int, int]:
    return path.l_in, path.l_edge, path.l_out


def assert_same(found: list[Tensor], expected: list[Tensor], dtype: torch.dtype) -> None:
    for one, other in zip(found, expected, strict=True):
        scale = max(1.0, other.abs().max().item()) if other.numel() else 1.0
        torch.testing.assert_close(one, other, atol=TOLERANCES[dtype] * scale, rtol=0)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("channels", [1, 17, 48])
def test_same_derivatives_as_the_reference(channels: int, dtype: torch.dtype) -> None:
    problem = Problem(channels=channels, dtype=dtype)
    assert_same(problem.derivatives("fused"), problem.derivatives("reference"), dtype)


@pytest.mark.parametrize("graph", GRAPHS)
def test_unusual_graphs(graph: str) -> None:
    problem = Problem(GRAPHS[graph])
    assert_same(problem.derivatives("fused"), problem.derivatives("reference"), torch.float64)


@pytest.mark.parametrize(
    "paths",
    [
        natural_paths(l_in=0, l_edge=3, l_out=3),
        natural_paths(l_in=3, l_edge=2, l_out=1),
        (Path(1, 1, 2), Path(0, 0, 0), Path(2, 1, 1), Path(0, 0, 0)),
    ],
    ids=["scalars in", "degree 3", "a list in no order"],
)
def test_other_path_lists(paths: tuple[Path, ...]) -> None:
    problem = Problem(paths=paths)
    assert_same(problem.derivatives("fused"), problem.derivatives("reference"), torch.float64)


@pytest.mark.parametrize("n_receivers", [2, 9])
def test_receivers_that_are_not_the_senders(n_receivers: int) -> None:
    """As where an interaction is computed for some atoms at a time."""
    problem = Problem()
    problem.edge_index[1] = problem.edge_index[1] * n_receivers // N_NODES
    problem.n_receivers = n_receivers
    problem.weight = torch.randn(n_receivers, *problem.weight.shape[1:]).double().requires_grad_()
    found = problem.derivatives("fused")
    assert found[0].shape[0] == n_receivers
    assert_same(found, problem.derivatives("reference"), torch.float64)


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gfm_models.kernels.library.WORK_OF_A_THREAD", 1)
    problem = Problem(channels=32, dtype=torch.float32)
    results = []
    for n_threads in (1, 2, 3, 40, 1):
        torch.set_num_threads(n_threads)
        try:
            results.append(problem.derivatives("fused"))
        finally:
            torch.set_num_threads(1)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_arguments_need_not_be_contiguous() -> None:
    problem = Problem(channels=16)
    expected = problem.derivatives("fused")
    problem.at = tuple(x.detach().mT.contiguous().mT.requires_grad_() for x in problem.at)  # pyright: ignore[reportAttributeAccessIssue] (a tuple of three)
    assert not problem.at[0].is_contiguous()
    assert_same(problem.derivatives("fused"), expected, torch.float64)


# The operations one by one, for torch.compile, export and higher derivatives.


def operations() -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Every operation with arguments for it."""
    n_lanes = edge_library(PATHS, torch.float64).lanes
    problem = Problem((3, [(1, 0), (2, 0), (0, 1)]), channels=n_lanes)
    order = fused.edge_order(problem.edge_index, problem.n_nodes, problem.n_nodes)
    change = [x.clone().requires_grad_() for x in problem.second_weights]
    end = (order, flatten_paths(PATHS))
    return {
        "order": (fused.edge_order, (problem.edge_index, problem.n_nodes, problem.n_nodes)),
        "value": (fused.edge_value, (*problem.at, *end)),
        "gradient": (fused.edge_gradient, (problem.weight, *problem.at, *end)),
        "tangent": (fused.edge_tangent, (*problem.at, *change, *end)),
        "curvature": (fused.edge_curvature, (problem.weight, *problem.at, *change, *end)),
    }


@pytest.mark.parametrize("name", ["order", "value", "gradient", "tangent", "curvature"])
def test_operations_are_registered_soundly(name: str) -> None:
    operation, arguments = operations()[name]
    torch.library.opcheck(operation.overload, arguments)


@pytest.mark.parametrize("name", ["value", "gradient", "tangent", "curvature"])
def test_every_operation_has_its_derivative(name: str) -> None:
    """Together they are closed: any number of derivatives is right."""
    operation, arguments = operations()[name]
    floating = [
        i for i, x in enumerate(arguments) if isinstance(x, Tensor) and x.is_floating_point()
    ]

    def of_direction(steps: Tensor) -> tuple[Tensor, ...]:
        moved = list(arguments)
        for step, i in zip(steps, floating, strict=True):
            tensor = arguments[i]
            assert isinstance(tensor, Tensor)
            direction = torch.linspace(-1, 1, tensor.numel(), dtype=tensor.dtype)
            moved[i] = tensor.detach() + step * direction.view(tensor.shape)
        result = operation(*moved)
        return result if isinstance(result, tuple) else (result,)

    steps = torch.zeros(len(floating), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(of_direction, steps, fast_mode=True)
    assert torch.autograd.gradgradcheck(of_direction, steps, fast_mode=True)


def test_a_compiled_function_sees_them() -> None:
    problem = Problem(channels=8)
    order = fused.edge_order(problem.edge_index, problem.n_nodes, problem.n_nodes)
    arguments = (*(x.detach() for x in problem.at), order, flatten_paths(PATHS))
    graphs = []

    def keep(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(
        lambda *a: 2 * fused.edge_value(*a), backend=keep, fullgraph=True, dynamic=True
    )
    assert torch.equal(compiled(*arguments), 2 * fused.edge_value(*arguments))
    assert "gfm_models.edge_value" in str(graphs[0].graph)


# What it refuses.


@pytest.mark.parametrize("bad", [-1, N_NODES])
@pytest.mark.parametrize(("row", "name"), [(0, "senders"), (1, "receivers")])
def test_edges_of_nodes_that_do_not_exist(row: int, name: str, bad: int) -> None:
    edge_index = torch.tensor([[0, 1], [1, 1]])
    edge_index[row, 0 if bad < 0 else 1] = bad
    with pytest.raises(ValueError, match=rf"{name} in `edge_index` must lie in 0 to 4"):
        prepare_edges(edge_index, n_nodes=N_NODES, backend="fused")


def test_edges_in_another_order() -> None:
    with pytest.raises(ValueError, match="edges must be sorted by receiver"):
        prepare_edges(torch.tensor([[0, 1], [1, 0]]), n_nodes=2, backend="fused")


def test_edges_of_another_graph() -> None:
    problem = Problem()
    edges = prepare_edges(problem.edge_index, n_nodes=N_NODES + 1, backend="fused")
    with pytest.raises(ValueError, match="were prepared for another graph"):
        edge_operation(*problem.at, edges=edges, paths=PATHS)


def test_tensors_of_another_shape_or_precision() -> None:
    problem = Problem(channels=8)
    edges = prepare_edges(problem.edge_index, n_nodes=N_NODES, backend="fused")
    radial, harmonics, features = problem.at
    with pytest.raises(ValueError, match=r"of shape \[40, 7, 8\] here, got .* \[40, 6, 8\]"):
        edge_operation(radial[:, 1:], harmonics, features, edges=edges, paths=PATHS)
    with pytest.raises(ValueError, match=r"of shape \[40, 9\] here, got .* \[40, 8\]"):
        edge_operation(radial, harmonics[:, 1:], features, edges=edges, paths=PATHS)
    with pytest.raises(ValueError, match=r"a torch.float64 tensor .* got torch.float32"):
        edge_operation(radial, harmonics.float(), features, edges=edges, paths=PATHS)
