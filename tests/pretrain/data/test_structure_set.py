import numpy as np
import pytest
from gfm_pretrain.cost import RelativeCost
from gfm_pretrain.data.structure import LabelledStructure
from gfm_pretrain.data.structure_set import (
    Columns,
    StructureSet,
    edges_inside,
    in_memory,
)
from hydrogen import CUTOFF, LABELLED, N_ATOMS, N_EDGES, STRUCTURES, in_shards, molecule

COST = RelativeCost(of_atom=3.0, of_pass=100.0)
ORDERS = ([0, 1, 2, 3, 4], [4, 0], [3, 3, 1], [2], [])


@pytest.fixture(params=[(5,), (2, 3), (1, 1, 1, 1, 1)], ids=str)
def structures(request) -> StructureSet:
    """The same structures in one shard and in several."""
    return in_shards(STRUCTURES, *request.param)


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_the_index_counts_atoms_edges_and_labels(structures, order):
    index, places = structures.index(CUTOFF), np.array(order, dtype=np.int64)
    assert len(index) == 5
    assert index.n_atoms(places).tolist() == [N_ATOMS[i] for i in order]
    assert index.edges(places).tolist() == [N_EDGES[i] for i in order]
    assert index.labelled(places).tolist() == [LABELLED[i] for i in order]
    costs = [N_EDGES[i] + 3.0 * N_ATOMS[i] for i in order]
    assert index.costs(places, COST).tolist() == costs


def test_the_mean_cost_is_that_of_all(structures):
    found = structures.index(CUTOFF).statistics
    assert (found.n_structures, found.atoms, found.edges) == (5, 11, 24)
    assert found.mean_cost(COST) == pytest.approx((24 + 11 * 3.0) / 5)


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_what_is_read_is_what_was_put_in(structures, order):
    columns = structures.read(np.array(order, dtype=np.int64))
    assert columns.n_atoms.tolist() == [N_ATOMS[i] for i in order]
    ends = np.cumsum(columns.n_atoms)
    for row, place in enumerate(order):
        atoms = slice(ends[row] - columns.n_atoms[row], ends[row])
        check_row(columns, row, atoms, STRUCTURES[place])
    assert len(columns.positions) == columns.n_atoms.sum()


def check_row(columns: Columns, row: int, atoms: slice, expected: LabelledStructure) -> None:
    np.testing.assert_array_equal(columns.atomic_numbers[atoms], expected.atomic_numbers)
    np.testing.assert_array_equal(columns.positions[atoms], expected.positions)
    np.testing.assert_array_equal(columns.cell[row], expected.cell)
    np.testing.assert_array_equal(columns.pbc[row], expected.pbc)
    for label, found in (
        (expected.energy, columns.energy[row]),
        (expected.forces, columns.forces[atoms]),
        (expected.stress, columns.stress[row]),
    ):
        np.testing.assert_array_equal(found, np.nan if label is None else label)


def test_what_is_read_can_be_changed_without_harm(structures):
    columns = structures.read(np.array([0]))
    columns.positions[:] = 7.0
    columns.energy[:] = 7.0
    np.testing.assert_array_equal(structures.read(np.array([0])).energy, [-1.0])
    np.testing.assert_array_equal(structures.structure(0).positions, STRUCTURES[0].positions)


def test_structures_come_back_whole(structures):
    for found, expected in zip(structures.structures(), STRUCTURES, strict=True):
        for name in ("atomic_numbers", "positions", "cell", "pbc", "forces", "stress"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert (found.energy, found.identifier) == (expected.energy, expected.identifier)
    some = structures.structures(np.array([4, 1]))
    assert [s.identifier for s in some] == ["row of 4", "row of 2"]
    assert structures.identifier(2) == "cube"


@pytest.mark.parametrize("size", [1, 2, 100])
def test_chunks_are_all_structures_in_order(structures, size):
    chunks = list(structures.chunks(size))
    assert max(map(len, chunks)) <= size
    names = [chunk.identifier(row) for chunk in chunks for row in range(len(chunk))]
    assert names == [s.identifier for s in STRUCTURES]


@pytest.mark.parametrize("place", [-1, 5])
def test_a_place_outside_is_refused(structures, place):
    with pytest.raises(IndexError, match=r"places must lie in 0 … 4, got"):
        structures.read(np.array([0, place]))


def test_edges_between_radii_go_with_the_volume():
    """8, 64 and 216 edges inside 2, 4 and 6 Å: one per Å³, and the cutoff to the third power."""
    counts = np.array([[8, 64, 216], [0, 0, 0]])
    for cutoff in (1.0, 2.0, 3.0, 4.0, 5.5, 6.0, 10.0):
        found = edges_inside(cutoff, counts, (2.0, 4.0, 6.0))
        assert found.tolist() == [round(cutoff**3), 0]


def test_edges_at_a_radius_are_those_that_were_counted():
    counts = np.array([[5, 7, 100]])
    radii = (2.0, 4.0, 6.0)
    assert [edges_inside(r, counts, radii).item() for r in radii] == [5, 7, 100]


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
        in_memory([molecule(2), broken], cutoff=2.5)
