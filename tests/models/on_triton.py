"""The Triton back end against the reference: on a GPU, or interpreted on the CPU.

`test_triton.py` starts it in a process of its own, for Triton decides when it is first imported
whether it interprets. Graphs are small: interpreted, an operation on a few channels takes 20 µs.
"""

import os

import pytest
import torch
from ase.build import molecule
from gfm_models import backbone
from gfm_models.backbone import BackboneConfig
from gfm_models.derivatives import predict
from gfm_models.graph import graph_from_atoms
from gfm_models.heads import HeadConfig
from gfm_models.kernels import fused
from gfm_models.kernels.backend import Backend
from gfm_models.kernels.edge_operation import prepare_edges
from gfm_models.kernels.paths import Path, natural_paths
from gfm_models.kernels.triton_library import block_size, triton_library
from gfm_models.kernels.triton_probe import check_triton
from gfm_models.potential import build_potential
from test_fused import GRAPHS, PATHS, Problem, assert_same
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else torch.accelerator.current_accelerator() or "meta")
assert DEVICE.type != "meta", "these tests need a GPU, or TRITON_INTERPRET=1"

SMALL = (4, [(1, 0), (2, 0), (0, 1), (1, 1), (3, 1), (2, 1), (0, 3), (0, 3)])
"""Node 2 has no neighbours."""

HEAD = HeadConfig(
    level_of_theory="none", reference_energies={"H": -1.0, "O": -2.0}, scales={"H": 0.7, "O": 1.1}
)


@pytest.fixture(autouse=True)
def in_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is interpreted, tensors on the CPU are for Triton, too."""
    if INTERPRETED:
        monkeypatch.setattr(fused, "edge_library", triton_library)
        monkeypatch.setattr(backbone, "choose_backend", lambda choice, **_: choice)


def assert_like_the_reference(problem: Problem) -> None:
    """The reference on the CPU is what is right, also where it could run on the GPU."""
    expected = problem.derivatives("reference")
    assert_same(on_device(problem), expected, expected[0].dtype)


def on_device(problem: Problem) -> list[Tensor]:
    kept = (problem.at, problem.weight, problem.second_weights, problem.edge_index)
    moved = [x.detach().to(DEVICE).requires_grad_() for x in (*problem.at, problem.weight)]
    problem.at, problem.weight = (moved[0], moved[1], moved[2]), moved[3]
    problem.second_weights = tuple(x.to(DEVICE) for x in problem.second_weights)
    problem.edge_index = problem.edge_index.to(DEVICE)
    found = [x.cpu() for x in problem.derivatives("triton")]
    problem.at, problem.weight, problem.second_weights, problem.edge_index = kept
    return found


@pytest.mark.parametrize(
    ("channels", "dtype"),
    [(1, torch.float64), (17, torch.float32), (70, torch.float64), (70, torch.float32)],
    ids=str,
)
def test_same_derivatives(channels: int, dtype: torch.dtype) -> None:
    problem = Problem(SMALL, channels=channels, dtype=dtype)
    n_blocks = -(-channels // block_size(channels, dtype))
    assert (n_blocks > 1) == (channels == 70), "one case has several blocks of channels"
    assert_like_the_reference(problem)


@pytest.mark.parametrize("graph", GRAPHS)
def test_unusual_graphs(graph: str) -> None:
    assert_like_the_reference(Problem(GRAPHS[graph]))


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
    assert_like_the_reference(Problem(SMALL, paths=paths))


@pytest.mark.parametrize("n_receivers", [2, 9])
def test_receivers_that_are_not_the_senders(n_receivers: int) -> None:
    problem = Problem(SMALL)
    problem.edge_index[1] = problem.edge_index[1] * n_receivers // 4
    problem.n_receivers = n_receivers
    problem.weight = torch.randn(n_receivers, *problem.weight.shape[1:]).double().requires_grad_()
    assert_like_the_reference(problem)


@pytest.mark.skipif(INTERPRETED, reason="programs are interpreted one after the other")
def test_the_same_bits_every_time() -> None:
    """No sum is left to the order in which programs happen to run."""
    problem = Problem(channels=70, dtype=torch.float32)
    first, second = on_device(problem), on_device(problem)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_training_step_of_a_whole_network(dtype: torch.dtype) -> None:
    """Forces, and the gradient of a loss of energy and forces by all weights."""
    expected, found = (gradients(backend, dtype) for backend in ("reference", "triton"))
    assert_same(found, expected, dtype)


def gradients(backend: Backend, dtype: torch.dtype) -> list[Tensor]:
    config = BackboneConfig(channels=5, n_radial=4, radial_hidden=(8,), element_channels=4)
    device = torch.device("cpu") if backend == "reference" else DEVICE
    potential = build_potential(config, {"head": HEAD}, seed=1, dtype=dtype, backend=backend)
    potential = potential.to(device)
    assert potential.backbone.backend == backend
    graph = graph_from_atoms(molecule("H2O"), cutoff=config.cutoff).to(device)
    prediction = predict(potential, graph, "head", create_graph=True)
    (prediction.energy.square().sum() + prediction.forces.square().sum()).backward()
    by_weights = [p.grad for p in potential.parameters() if p.grad is not None]
    assert len(by_weights) > 10
    return [x.detach().cpu() for x in (prediction.energy, prediction.forces, *by_weights)]


def test_it_works_here() -> None:
    check_triton(DEVICE)


def test_edges_of_another_graph() -> None:
    problem = Problem(SMALL)
    at = tuple(x.detach().to(DEVICE) for x in problem.at)
    order = prepare_edges(problem.edge_index.to(DEVICE), n_nodes=9, backend="triton").order
    assert order is not None
    library = triton_library(PATHS, torch.float64)
    with pytest.raises(ValueError, match="were prepared for another graph"):
        library.value((at[0], at[1], torch.cat([at[2]] * 9)), order)
    with pytest.raises(ValueError, match=r"of shape \[8, 7, 3\] here, got .* \[8, 6, 3\]"):
        library.value((at[0][:, 1:].contiguous(), at[1], at[2]), order)


@pytest.mark.skipif(INTERPRETED, reason="graphs of calls are a GPU's")
def test_a_cuda_graph_replays_it() -> None:
    problem = Problem(channels=64, dtype=torch.float32)
    at = tuple(x.detach().to(DEVICE) for x in problem.at)
    edge_index = problem.edge_index.to(DEVICE)

    def call() -> Tensor:
        edges = prepare_edges(edge_index, n_nodes=problem.n_nodes, backend="triton")
        assert edges.order is not None
        return fused.edge_value(*at, edges.order, fused.flatten_paths(PATHS))

    expected = call()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        found = call()
    for tensor in at:
        tensor.mul_(2)
    recorded.replay()
    torch.testing.assert_close(found, 8 * expected)
