"""Graphs: the conventions, batches, torch_geometric, and refused structures."""

import warnings
from dataclasses import fields
from types import ModuleType

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from gfm_models.graph import (
    AtomicGraph,
    batch_graphs,
    build_graph,
    edge_vectors,
    from_torch_geometric,
    graph_from_atoms,
    n_atoms_of,
    to_torch_geometric,
    volumes,
)

CUTOFF = 4.0
ONE_ATOM, ORIGIN = np.array([29]), np.zeros((1, 3))


@pytest.fixture(scope="module")
def torch_geometric() -> ModuleType:
    with warnings.catch_warnings():
        # torch_geometric 2.8 compiles functions at import with torch.jit.script, which torch 2.13
        # deprecates; it is no warning about anything this project does.
        warnings.filterwarnings("ignore", ".*torch.jit.script.*", DeprecationWarning)
        import torch_geometric.data

    return torch_geometric


@pytest.fixture
def graphs() -> list[AtomicGraph]:
    structures = [molecule("CH4"), bulk("Cu"), Atoms("H"), molecule("H2O")]
    return [graph_from_atoms(atoms, cutoff=CUTOFF) for atoms in structures]


def assert_equal(found: AtomicGraph, expected: AtomicGraph) -> None:
    for field in fields(AtomicGraph):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        assert a.dtype == b.dtype, field.name
        assert torch.equal(a, b), field.name


def test_edge_vectors_point_from_sender_to_receiver() -> None:
    graph = graph_from_atoms(Atoms("HO", [[0, 0, 0], [0, 0, 1]]), cutoff=CUTOFF)
    to_oxygen = graph.receivers == 1
    assert graph.senders[to_oxygen].tolist() == [0]
    assert edge_vectors(graph)[to_oxygen].tolist() == [[0.0, 0.0, 1.0]]


def test_shifts_are_added_as_lattice_vectors() -> None:
    atoms = Atoms("H", cell=[3.0, 10.0, 10.0], pbc=True)
    graph = graph_from_atoms(atoms, cutoff=CUTOFF)
    assert sorted(graph.shifts[:, 0].tolist()) == [-1, 1]
    assert torch.equal(edge_vectors(graph)[:, 0], 3.0 * graph.shifts[:, 0])


def test_both_directions_of_every_edge_are_present(graphs: list[AtomicGraph]) -> None:
    for graph in graphs:
        keys = torch.cat([graph.edge_index.T, graph.shifts], dim=1)
        backward = torch.cat([graph.edge_index.flip(0).T, -graph.shifts], dim=1)
        assert sorted(keys.tolist()) == sorted(backward.tolist())


def test_volume_of_a_skewed_left_handed_cell() -> None:
    cell = np.array([[0.0, 2.0, 0.0], [3.0, 0.5, 0.0], [0.1, 0.2, 4.0]])
    graph = build_graph(ONE_ATOM, ORIGIN, cell=cell, pbc=np.ones(3), cutoff=1.0)
    assert volumes(graph).item() == pytest.approx(24.0)
    assert graph.has_cell.tolist() == [True]


def test_cells_without_a_volume_have_exactly_none() -> None:
    """Three vectors in one plane: the determinant is rounding noise, not a volume."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        a, b = generator.normal(size=(2, 3))
        cell = np.stack([a, b, generator.normal() * a + generator.normal() * b])
        graph = build_graph(ONE_ATOM, ORIGIN, cell=cell, pbc=np.zeros(3), cutoff=1.0)
        assert volumes(graph).tolist() == [0.0]
        assert graph.has_cell.tolist() == [False]


def test_the_input_is_copied() -> None:
    positions, cell = np.zeros((1, 3)), np.eye(3)
    graph = build_graph(np.array([1]), positions, cell=cell, pbc=np.ones(3), cutoff=0.5)
    positions += 1.0
    cell += 1.0
    assert graph.positions.tolist() == [[0.0, 0.0, 0.0]]
    assert torch.equal(graph.cell[0], torch.eye(3, dtype=torch.float64))


def test_pbc_may_be_given_as_numbers() -> None:
    """Flags 0 and 1 are flags, never row numbers of the cell."""
    as_flags, as_numbers = (
        build_graph(ONE_ATOM, ORIGIN, cell=3 * np.eye(3), pbc=pbc, cutoff=CUTOFF)
        for pbc in (np.array([True, True, False]), np.array([1, 1, 0]))
    )
    assert_equal(as_numbers, as_flags)


def test_batch_keeps_every_graph(graphs: list[AtomicGraph]) -> None:
    batch = batch_graphs(graphs)
    assert batch.n_graphs == len(graphs)
    assert batch.n_edges == sum(g.n_edges for g in graphs)
    assert n_atoms_of(batch).tolist() == [g.n_nodes for g in graphs]
    assert torch.equal(edge_vectors(batch), torch.cat([edge_vectors(g) for g in graphs]))
    assert (batch.graph_index[batch.senders] == batch.graph_index[batch.receivers]).all()
    assert (batch.receivers.diff() >= 0).all()


def test_batch_of_batches_is_the_batch(graphs: list[AtomicGraph]) -> None:
    halves = batch_graphs([batch_graphs(graphs[:2]), batch_graphs(graphs[2:])])
    assert_equal(halves, batch_graphs(graphs))


def test_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one graph"):
        batch_graphs([])


def test_torch_geometric_round_trip(graphs: list[AtomicGraph], torch_geometric: ModuleType) -> None:
    batch = batch_graphs(graphs)
    assert_equal(from_torch_geometric(to_torch_geometric(batch)), batch)


def test_torch_geometric_batches_as_we_do(
    graphs: list[AtomicGraph], torch_geometric: ModuleType
) -> None:
    batch = torch_geometric.data.Batch.from_data_list([to_torch_geometric(g) for g in graphs])
    assert_equal(from_torch_geometric(batch), batch_graphs(graphs))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": np.zeros((1, 3))}, r"`positions` must have shape \[2, 3\], got \[1, 3\]"),
        ({"cell": np.zeros(3)}, r"`cell` must have shape \[3, 3\], got \[3\]"),
        ({"pbc": np.zeros(2)}, r"`pbc` must have shape \[3\], got \[2\]"),
        ({"positions": np.array([[0, 0, 0], [0, 0, np.nan]])}, "must be finite"),
        ({"positions": np.array([[0, 0, 0], [0, 0, np.inf]])}, "must be finite"),
        ({"cell": np.full((3, 3), np.nan)}, "must be finite"),
        ({"atomic_numbers": np.array([1, 0])}, "1 to 118, found 0"),
        ({"atomic_numbers": np.array([119, 1])}, "1 to 118, found 119"),
        ({"atomic_numbers": np.array([1, -6])}, "1 to 118, found -6"),
    ],
)
def test_impossible_structures_are_refused(change: dict[str, np.ndarray], message: str) -> None:
    structure = {
        "atomic_numbers": np.array([1, 1]),
        "positions": np.array([[0.0, 0, 0], [0, 0, 1]]),
        "cell": np.zeros((3, 3)),
        "pbc": np.zeros(3),
    }
    with pytest.raises(ValueError, match=message):
        build_graph(**(structure | change), cutoff=CUTOFF)


def test_torch_geometric_edges_must_be_sorted(
    graphs: list[AtomicGraph], torch_geometric: ModuleType
) -> None:
    data = to_torch_geometric(graphs[0])
    assert data.edge_index is not None
    data.edge_index = data.edge_index.flip(1)
    with pytest.raises(ValueError, match="sorted by receiver"):
        from_torch_geometric(data)


def test_positions_far_out_are_refused() -> None:
    with pytest.raises(ValueError, match=r"within 1e\+04 Å of the origin, found 5e\+12 Å; wrap"):
        graph_from_atoms(Atoms("H", [[5e12, 0, 0]]), cutoff=5.0)
