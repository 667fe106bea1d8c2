"""Edge vectors, repulsion, forces and virials in C, against the same in torch."""

import dataclasses

import numpy as np
import pytest
import torch
from ase import Atoms
from gfm_models.graph import AtomicGraph, batch_graphs, edge_vectors, graph_from_atoms
from gfm_models.kernels import structure
from gfm_models.kernels.from_vectors import Surroundings
from gfm_models.kernels.library import order_edges
from gfm_models.kernels.structure import compute_edge_vectors, forces_and_virials
from gfm_models.zbl import ZBL
from torch import Tensor

CUTOFF = 3.0


@pytest.fixture
def graph() -> AtomicGraph:
    """A skewed crystal under its cutoff's size, a dense molecule and a single atom."""
    generator = np.random.default_rng(0)
    cell = 2 * np.eye(3) + 0.5 * generator.normal(size=(3, 3))
    crystal = Atoms("CuNi", [[0.1, 0, 0], [1.0, 1.2, 5.0]], cell=cell, pbc=[True, False, True])
    cluster = Atoms("HCOHU", generator.normal(size=(5, 3)))
    parts = [crystal, cluster, Atoms("H")]
    return batch_graphs([graph_from_atoms(atoms, cutoff=CUTOFF) for atoms in parts])


@pytest.fixture
def order(graph: AtomicGraph) -> Tensor:
    n = graph.n_nodes
    return order_edges(graph.edge_index, n_senders=n, n_receivers=n)


@pytest.fixture
def around(graph: AtomicGraph, order: Tensor) -> Surroundings:
    return Surroundings(order=order, vectors=edge_vectors(graph), cutoff=CUTOFF)


def test_edge_vectors(graph: AtomicGraph, order: Tensor) -> None:
    found = compute_edge_vectors(graph, order)
    torch.testing.assert_close(found, edge_vectors(graph), atol=1e-14, rtol=0)


def test_repulsion_and_its_gradient(
    graph: AtomicGraph, around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    repulsion = ZBL(cutoff=2.0, reach=1.0)  # shorter than the sum of the radii of copper and nickel
    vectors = around.vectors.clone().requires_grad_()
    expected = repulsion(graph, vectors)
    (gradient,) = torch.autograd.grad(expected.sum(), vectors)
    for n_threads in (1, 3):
        monkeypatch.setattr(structure, "EDGES_OF_A_THREAD", 1)
        monkeypatch.setattr(torch, "get_num_threads", lambda n=n_threads: n)
        there = torch.ones_like(vectors)
        found = repulsion.with_gradient(graph, around, to_vectors=there)
        torch.testing.assert_close(found, expected.detach(), rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(there - 1, gradient, rtol=1e-12, atol=1e-12)
    assert (expected > 1).any()


def test_forces_and_virials(graph: AtomicGraph, around: Surroundings) -> None:
    gradient = torch.from_numpy(np.random.default_rng(1).normal(size=(graph.n_edges, 3)))
    positions = graph.positions.clone().requires_grad_()
    strain = torch.zeros(graph.n_graphs, 3, 3, dtype=torch.float64, requires_grad=True)
    symmetric = torch.eye(3).double() + (strain + strain.mT) / 2
    strained = dataclasses.replace(
        graph,
        positions=(positions[:, None] @ symmetric[graph.graph_index])[:, 0],
        cell=graph.cell @ symmetric,
    )
    energy = (edge_vectors(strained) * gradient).sum()
    expected = torch.autograd.grad(energy, (positions, strain))
    forces, virials = forces_and_virials(graph, around, gradient=gradient)
    torch.testing.assert_close(forces, -expected[0], atol=1e-13, rtol=1e-13)
    torch.testing.assert_close(virials, expected[1], atol=1e-13, rtol=1e-13)


def test_what_does_not_fit_is_refused(graph: AtomicGraph, order: Tensor) -> None:
    for change, message in (
        ({"graph_index": graph.graph_index + 1}, "`graph_index` must lie in 0 to 2"),
        ({"positions": graph.positions.float()}, r"float64 tensor of shape \[8, 3\] here, got"),
        ({"shifts": graph.shifts[:-1]}, r"int64 tensor of shape .* got"),
    ):
        with pytest.raises(ValueError, match=message):
            compute_edge_vectors(dataclasses.replace(graph, **change), order)
    with pytest.raises(ValueError, match="prepared for another graph"):
        compute_edge_vectors(graph, order_edges(graph.edge_index, n_senders=9, n_receivers=9))


def test_unknown_atomic_numbers_are_refused(graph: AtomicGraph, around: Surroundings) -> None:
    for number in (-1, 119):
        other = dataclasses.replace(graph, atomic_numbers=torch.full((graph.n_nodes,), number))
        with pytest.raises(ValueError, match="atomic numbers must lie in 1 to 118"):
            ZBL(cutoff=2.0, reach=1.0).with_gradient(
                other, around, to_vectors=torch.zeros_like(around.vectors)
            )
