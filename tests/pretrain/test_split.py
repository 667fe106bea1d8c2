import numpy as np
import pytest
import torch
from gfm_models.graph import edge_vectors
from gfm_models.loss import label_counts
from gfm_pretrain.data.split import COST_OF_ATOM, build_batch, build_split, part_of
from gfm_pretrain.data.structure import LabelledStructure

CPU = torch.device("cpu")


def molecule(n_atoms: int, **labels) -> LabelledStructure:
    """Hydrogen atoms in a row, 1 Å apart."""
    return LabelledStructure(
        atomic_numbers=np.ones(n_atoms, dtype=np.int64),
        positions=np.arange(3.0 * n_atoms).reshape(n_atoms, 3) / np.sqrt(27.0),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
        identifier=f"row of {n_atoms}",
        **labels,
    )


def crystal(**labels) -> LabelledStructure:
    """Simple cubic hydrogen, 2 Å."""
    return LabelledStructure(
        atomic_numbers=np.ones(1, dtype=np.int64),
        positions=np.zeros((1, 3)),
        cell=2.0 * np.eye(3),
        pbc=np.ones(3, dtype=bool),
        identifier="cube",
        **labels,
    )


STRUCTURES = [
    molecule(3, energy=-1.0, forces=np.full((3, 3), 0.5)),
    molecule(2, forces=np.zeros((2, 3))),
    crystal(energy=2.0, stress=np.eye(3)),
    molecule(1, energy=0.0),
]


def test_the_index_counts_atoms_edges_and_labels():
    index = build_split(STRUCTURES, cutoff=2.5).index
    assert len(index) == 4
    assert index.n_atoms.tolist() == [3, 2, 1, 1]
    assert index.n_edges.tolist() == [6, 2, 6, 0]
    assert index.labelled.tolist() == [[1, 3, 0], [0, 2, 0], [1, 0, 1], [1, 0, 0]]
    assert index.costs.tolist() == [
        6 + 3 * COST_OF_ATOM,
        2 + 2 * COST_OF_ATOM,
        6 + COST_OF_ATOM,
        COST_OF_ATOM,
    ]


def test_the_index_and_the_batch_count_alike():
    split = build_split(STRUCTURES, cutoff=2.5)
    graph, labels = build_batch(STRUCTURES, cutoff=2.5, device=CPU)
    assert label_counts(labels).tolist() == split.index.labelled.sum(0).tolist()
    assert graph.n_edges == split.index.n_edges.sum()
    assert graph.n_nodes == split.index.n_atoms.sum()


def test_a_batch_has_its_structures_side_by_side():
    graph, labels = build_batch(STRUCTURES, cutoff=2.5, device=CPU)
    assert graph.graph_index.tolist() == [0, 0, 0, 1, 1, 2, 3]
    assert edge_vectors(graph).norm(dim=-1).max() < 2.5
    assert torch.equal(graph.graph_index[graph.senders], graph.graph_index[graph.receivers])
    assert labels.energy[[0, 2, 3]].tolist() == [-1.0, 2.0, 0.0]
    assert labels.forces[:5].tolist() == [[0.5] * 3] * 3 + [[0.0] * 3] * 2
    assert torch.equal(labels.stress[2], torch.eye(3, dtype=torch.float64))


def test_a_label_that_is_missing_is_nan():
    _, labels = build_batch(STRUCTURES, cutoff=2.5, device=CPU)
    assert labels.energy.isnan().tolist() == [False, True, False, False]
    assert labels.forces.isnan().all(-1).tolist() == [False] * 5 + [True] * 2
    assert labels.stress.isnan().flatten(1).all(-1).tolist() == [True, True, False, True]


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 6])
def test_the_parts_of_all_ranks_are_the_whole(n_ranks):
    split = build_split(STRUCTURES, cutoff=2.5)
    parts = [part_of(split, rank, n_ranks) for rank in range(n_ranks)]
    assert sorted(s.identifier for part in parts for s in part.structures) == sorted(
        s.identifier for s in STRUCTURES
    )
    assert sum(part.index.n_atoms.sum() for part in parts) == 7
    for part in parts:
        assert part.index.n_atoms.tolist() == [s.n_atoms for s in part.structures]
        assert part.index.labelled.shape == (len(part.structures), 3)


def test_atoms_at_one_position_name_the_structure():
    broken = LabelledStructure(
        atomic_numbers=np.ones(2, dtype=np.int64),
        positions=np.zeros((2, 3)),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
        energy=0.0,
        identifier="train.extxyz:17",
    )
    with pytest.raises(ValueError, match=r"train\.extxyz:17: .*position"):
        build_split([molecule(2), broken], cutoff=2.5)
