from dataclasses import fields

import numpy as np
import pytest
import torch
from gfm_models.graph import batch_graphs, build_graph, edge_vectors
from gfm_models.loss import label_counts
from gfm_pretrain.data.batch import build_batch
from gfm_pretrain.data.structure_set import in_memory
from hydrogen import CUTOFF, N_ATOMS, STRESS, STRUCTURES

CPU = torch.device("cpu")
SET = in_memory(STRUCTURES, cutoff=CUTOFF)


def batch_of(*places: int):
    return build_batch(SET.read(np.array(places)), cutoff=CUTOFF, device=CPU)


def test_the_index_and_the_batch_count_alike():
    index, everything = SET.index(CUTOFF), np.arange(5)
    graph, labels = batch_of(*range(5))
    assert label_counts(labels).tolist() == index.labelled(everything).sum(0).tolist()
    assert graph.n_edges == index.edges(everything).sum()
    assert graph.n_nodes == index.n_atoms(everything).sum()


def test_a_batch_has_its_structures_side_by_side():
    graph, labels = batch_of(2, 0, 1)
    assert graph.graph_index.tolist() == [0, 1, 1, 1, 2, 2]
    assert edge_vectors(graph).norm(dim=-1).max() < CUTOFF
    assert torch.equal(graph.graph_index[graph.senders], graph.graph_index[graph.receivers])
    assert labels.energy[:2].tolist() == [2.0, -1.0]
    assert labels.forces[1:].tolist() == [*np.arange(9.0).reshape(3, 3).tolist(), *[[0.0] * 3] * 2]
    assert labels.stress[0].tolist() == STRESS.tolist()


def test_the_geometry_is_that_of_the_structures():
    graph, _ = batch_of(*range(5))
    positions = np.concatenate([s.positions for s in STRUCTURES])
    assert graph.positions.tolist() == positions.tolist()
    assert graph.cell.tolist() == [s.cell.tolist() for s in STRUCTURES]
    assert graph.pbc.tolist() == [s.pbc.tolist() for s in STRUCTURES]
    assert torch.bincount(graph.graph_index).tolist() == N_ATOMS


@pytest.mark.parametrize("places", [(0, 1, 2, 3, 4), (3,), (4, 2, 2)], ids=str)
def test_a_batch_built_at_once_is_that_of_single_graphs(places):
    graph, _ = batch_of(*places)
    single = [
        build_graph(s.atomic_numbers, s.positions, cell=s.cell, pbc=s.pbc, cutoff=CUTOFF)
        for s in (STRUCTURES[place] for place in places)
    ]
    expected = batch_graphs(single)
    for field in fields(expected):
        found, wanted = getattr(graph, field.name), getattr(expected, field.name)
        assert found.dtype == wanted.dtype
        assert torch.equal(found, wanted)


def test_a_label_that_is_missing_is_nan():
    _, labels = batch_of(*range(4))
    assert labels.energy.isnan().tolist() == [False, True, False, False]
    assert labels.forces.isnan().all(-1).tolist() == [False] * 5 + [True] * 2
    assert labels.stress.isnan().flatten(1).all(-1).tolist() == [True, True, False, True]
