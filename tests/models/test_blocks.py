"""Interactions computed again in blocks: the same numbers, whatever the blocks, and little kept."""

import weakref
from dataclasses import dataclass

import pytest
import torch
from gfm_models.backbone import BackboneConfig
from gfm_models.derivatives import predict
from gfm_models.graph import AtomicGraph, batch_graphs
from gfm_models.heads import HeadConfig
from gfm_models.layers.blocks import cut
from gfm_models.layers.recompute import recomputed
from gfm_models.potential import MultiHeadPotential, build_potential
from gfm_models.testing import CHECKS
from gfm_models.testing.structures import crystal, molecule
from torch import Tensor

HEAD = HeadConfig(
    level_of_theory="made up",
    reference_energies={"H": -13.6, "C": -1028.1, "O": -2041.3},
    scales={"H": 0.7, "C": 1.3, "O": 1.1},
)
ARCHITECTURES = {
    "default": BackboneConfig(channels=4, mean_neighbors=10.0),
    "deep": BackboneConfig(channels=3, l_max=3, l_hidden=2, n_interactions=3, cutoff=4.0),
}
BLOCKS = (1, 7, 50, 10**9)
ROUNDING = 1e-13


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> BackboneConfig:
    return ARCHITECTURES[request.param]


def potential_of(
    architecture: BackboneConfig, *, block_edges: int | None, dtype: torch.dtype = torch.float64
) -> MultiHeadPotential:
    potential = build_potential(architecture, {"h": HEAD}, seed=3, dtype=dtype)
    potential.backbone.recompute_in_blocks(block_edges)
    return potential


def graph_of(potential: MultiHeadPotential) -> AtomicGraph:
    made = (make(potential, "h").graph(potential.cutoff) for make in (molecule, crystal))
    return batch_graphs(list(made))


def loss_of(potential: MultiHeadPotential, graph: AtomicGraph) -> Tensor:
    """Depends on energies, forces and virials, and not linearly."""
    prediction = predict(potential, graph, "h", create_graph=True)
    kinds = (prediction.energy / 1000, prediction.forces, prediction.virial)
    return torch.stack([kind.square().sum() for kind in kinds]).sum()


def gradients(potential: MultiHeadPotential) -> dict[str, Tensor]:
    loss_of(potential, graph_of(potential)).backward()
    return {name: p.grad for name, p in potential.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("block_edges", BLOCKS)
def test_gradients_of_a_loss_with_forces_are_the_same(architecture, block_edges):
    expected = gradients(potential_of(architecture, block_edges=None))
    found = gradients(potential_of(architecture, block_edges=block_edges))
    assert found.keys() == expected.keys()
    largest = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in expected.items():
        assert (found[name] - gradient).abs().max() < ROUNDING * largest, name
        assert gradient.any()


@pytest.mark.parametrize("check", CHECKS)
def test_the_contract_is_kept(check):
    CHECKS[check](potential_of(ARCHITECTURES["default"], block_edges=20), "h")


def test_frozen_weights_get_no_gradient(architecture):
    potential = potential_of(architecture, block_edges=7)
    potential.backbone.requires_grad_(False)
    found = gradients(potential)
    assert all(name.startswith("heads.") for name in found)
    assert all(gradient.any() for gradient in found.values())


def test_little_is_kept_for_the_backward_pass():
    """Of an edge its length and harmonics, not hundreds of products.

    Coefficients of splines, which are kept, are as few as they would be beside a larger graph.
    """
    architecture = BackboneConfig(channels=32, n_interactions=3, radial_intervals=8)
    everything, little = (
        kept_bytes(potential_of(architecture, block_edges=n, dtype=torch.float32))
        for n in (None, 50)
    )
    assert little < 0.2 * everything


def kept_bytes(potential: MultiHeadPotential) -> int:
    """Bytes that wait for the backward pass, weights apart."""
    kept: weakref.WeakSet[Kept] = weakref.WeakSet()

    def keep(tensor: Tensor) -> Kept:
        kept.add(wrapped := Kept(tensor.detach()))
        return wrapped

    graph = graph_of(potential)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda wrapped: wrapped.tensor):
        loss = loss_of(potential, graph)
    storages = [k.tensor.untyped_storage() for k in kept]
    weights = {p.untyped_storage().data_ptr() for p in potential.parameters()}
    sizes = {s.data_ptr(): s.nbytes() for s in storages if s.data_ptr() not in weights}
    assert loss.requires_grad  # and with it what it keeps was alive until here
    return sum(sizes.values())


@dataclass(eq=False)
class Kept:
    """What an operation has put aside."""

    tensor: Tensor


def test_there_is_no_third_derivative():
    x = torch.ones(3, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(recomputed(torch.exp, [x], []).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x, retain_graph=True)
    assert torch.allclose(second, x.exp())
    assert not second.requires_grad
    with pytest.raises(RuntimeError, match=r"no third derivative; keep them instead, with"):
        torch.autograd.grad(first.sum(), x, create_graph=True)


@pytest.mark.parametrize("block_edges", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
    "degrees", [[], [0], [0, 0, 3], [4, 0, 0, 1, 7, 2], [1] * 9, [20, 1, 1], [1, 1, 20]]
)
def test_blocks_have_whole_atoms_and_all_edges(degrees, block_edges):
    receivers = torch.repeat_interleave(torch.arange(len(degrees)), torch.tensor(degrees).long())
    n_nodes, n_edges = cut(receivers, n_nodes=len(degrees), block_edges=block_edges)
    assert sum(n_nodes) == len(degrees)
    assert sum(n_edges) == len(receivers)
    assert len(n_nodes) == len(n_edges) <= max(1, len(degrees))
    first = 0
    for count, edges in zip(n_nodes, n_edges, strict=True):
        assert edges == sum(degrees[first : first + count])
        assert edges <= 2 * block_edges + max(degrees, default=0)
        first += count
