import numpy as np
import pytest
from audit_cases import copper, crystal, make_structure, pair
from gfm_models.neighbors import neighbor_list
from gfm_pretrain.data.audit.measures import EDGE_RADII, fingerprint, measure


def test_edges_are_those_of_the_neighbour_list_inside_each_radius():
    for structure in copper(3):
        expected = [
            neighbor_list(
                structure.positions, cell=structure.cell, pbc=structure.pbc, cutoff=radius
            )[0].shape[1]
            for radius in EDGE_RADII
        ]
        measures = measure(structure)
        assert list(measures.n_edges) == expected
        assert measures.distance_counts.sum() == expected[-1]


@pytest.mark.parametrize("radius", EDGE_RADII)
def test_an_edge_as_long_as_the_radius_is_not_inside(radius):
    place = EDGE_RADII.index(radius)
    assert measure(pair(radius)).n_edges[place] == 0
    assert measure(pair(np.nextafter(radius, 0))).n_edges[place] == 2


def test_an_atom_without_neighbours_has_no_edges():
    measures = measure(make_structure([[1, 2, 3]], forces=None))
    assert measures.n_edges == (0, 0, 0, 0)
    assert measures.shortest_distance == np.inf
    assert (measures.net_force, measures.largest_force) == (0, 0)
    assert measures.distance_counts.sum() == 0


def test_a_cell_smaller_than_the_radius_counts_images():
    measures = measure(crystal(2.5))
    assert measures.n_edges[0] == 6
    assert measures.shortest_distance == 2.5
    assert measures.distance_counts[25] == 6


def test_distances_are_counted_in_tenths_of_ångströms():
    row = make_structure([[0, 0, 0], [0, 0, 1.05], [0, 0, 5.98]])
    counts = measure(row).distance_counts
    assert np.flatnonzero(counts).tolist() == [10, 49, 59]
    assert counts.sum() == 6


def test_forces_are_measured_as_vectors():
    measures = measure(pair(forces=np.array([[3.0, 4, 0], [0, 0, -12]])))
    assert measures.largest_force == 12
    assert measures.net_force == 13


def test_atoms_at_one_position_are_an_error():
    with pytest.raises(ValueError, match="atoms 0 and 1 are at the same position"):
        measure(make_structure([[0, 0, 0], [0, 0, 0]]))


def test_the_fingerprint_is_of_the_geometry_alone():
    first = next(copper(1))
    same = make_structure(
        first.positions + [0.5, -1, 3] + 1e-9,
        atomic_numbers=first.atomic_numbers,
        cell=first.cell,
        pbc=first.pbc,
        energy=None,
        identifier="another",
    )
    assert fingerprint(same) == fingerprint(first)
    assert 0 <= fingerprint(first) < 2**64


@pytest.mark.parametrize(
    "other",
    [
        pair(0.7502),
        pair(0.75, atomic_numbers=np.array([1, 2])),
        pair(0.75, cell=np.eye(3)),
        make_structure([[0, 0, 0], [0, 0.75, 0]]),
        make_structure([[0, 0, 0]]),
    ],
)
def test_another_geometry_has_another_fingerprint(other):
    assert fingerprint(other) != fingerprint(pair(0.75))


def test_periodicity_is_part_of_the_geometry():
    along_z = pair(cell=9 * np.eye(3), pbc=np.array([False, False, True]))
    assert fingerprint(along_z) != fingerprint(pair(cell=9 * np.eye(3)))
