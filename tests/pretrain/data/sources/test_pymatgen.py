import re

import numpy as np
import pytest
from ase import units
from gfm_pretrain.data.sources.pymatgen import read_structure, to_energy, to_forces, to_stress

CELL = [[4.0, 0.0, 0.0], [1.0, 5.0, 0.0], [0.0, 0.5, 6.0]]


def site(element: str, **fields: object) -> dict:
    """A fully occupied site with the keys of `Structure.as_dict`."""
    species = [{"element": element, "occu": 1}]
    return {"species": species, "abc": [0.5, 0.5, 0.5], "label": element, **fields}


def structure(*sites: dict, **lattice: object) -> dict:
    """A structure dictionary with the keys of `Structure.as_dict`."""
    return {
        "@module": "pymatgen.core.structure",
        "@class": "Structure",
        "charge": 0,
        "lattice": {"matrix": CELL, "a": 4.0, "b": 5.1, "c": 6.02, "volume": 120.0, **lattice},
        "sites": list(sites),
    }


def test_a_structure_is_read_with_cartesian_positions_in_the_skewed_cell():
    found = read_structure(
        structure(site("Fe", abc=[0.5, 0.5, 0.0]), site("O", abc=[0.25, 0.0, 0.5]))
    )
    np.testing.assert_array_equal(found.atomic_numbers, [26, 8])
    np.testing.assert_allclose(found.positions, [[2.5, 2.5, 0.0], [1.0, 0.25, 3.0]], rtol=1e-15)
    np.testing.assert_array_equal(found.cell, CELL)
    assert found.pbc.tolist() == [True, True, True]
    assert found.atomic_numbers.dtype == np.int64
    assert found.pbc.dtype == np.bool_


def test_cartesian_coordinates_are_read_where_there_are_no_others():
    sites = [site("H", xyz=[0, 1, 2.5]), site("H", xyz=[3, 4, 5])]
    for one in sites:
        del one["abc"]
    np.testing.assert_array_equal(
        read_structure(structure(*sites)).positions, [[0, 1, 2.5], [3, 4, 5]]
    )


def test_fractional_coordinates_win_as_in_pymatgen():
    found = read_structure(structure(site("H", abc=[1.0, 0.0, 0.0], xyz=[0.0, 0.0, 0.0])))
    np.testing.assert_array_equal(found.positions, [[4.0, 0.0, 0.0]])


def test_the_periodicity_is_read_where_it_is_said():
    found = read_structure(structure(site("C"), pbc=[True, True, False]))
    assert found.pbc.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        *[("Fe", 26), ("Fe3+", 26), ("O2-", 8), ("Fe2.67+", 26), ("Cu+", 29), ("Xe0+", 54)],
        *[("Fe3+,spin=5", 26), ("Co,spin=0", 27), ("D", 1), ("D+", 1), ("T", 1), ("Og", 118)],
    ],
)
def test_elements_with_oxidation_state_spin_or_isotope(name, number):
    assert read_structure(structure(site(name))).atomic_numbers.tolist() == [number]


@pytest.mark.parametrize("name", ["X", "Xx", "Fe3", "fe", "Vacancy", "", "Fe3+x", "None"])
def test_what_is_no_element_is_refused(name):
    with pytest.raises(ValueError, match=f"'{re.escape(name)}' is no chemical element"):
        read_structure(structure(site("Fe"), site(name)))


def test_occupancy_as_a_number_that_equals_one_is_order():
    species = [{"element": "Fe", "oxidation_state": 3.0, "occu": 1.0}]
    found = read_structure(structure(site("Fe", species=species)))
    assert found.atomic_numbers.tolist() == [26]


@pytest.mark.parametrize(
    ("species", "message"),
    [
        ([{"element": "Fe", "occu": 0.5}, {"element": "Co", "occu": 0.5}], "by one species, got"),
        ([{"element": "Fe", "occu": 0.75}], "must be fully occupied, got 0.75 of Fe"),
        ([], "by one species, got"),
        ("Fe", "by one species, got Fe"),
        ([{"element": "Fe"}], "the species has no `occu`"),
        ([{"occu": 1}], "the species has no `element`"),
        ([{"element": "Fe", "occu": None}], "must be fully occupied, got None of Fe"),
        (["Fe"], "the species must be an object with `occu`, got str"),
    ],
)
def test_disorder_is_refused(species, message):
    with pytest.raises(ValueError, match=message):
        read_structure(structure(site("O"), site("Fe", species=species)))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "the structure must be an object with `lattice`, got NoneType"),
        ({"lattice": {"matrix": CELL}}, "the structure has no `sites`"),
        ({"sites": []}, "the structure has no `lattice`"),
        (structure(), "`sites` must be a list with at least one site"),
        (structure(site("H"), matrix=[[1, 0], [0, 1]]), r"`lattice.matrix` must have shape \[3, 3"),
        (structure(site("H"), matrix=None), r"`lattice.matrix` must have shape \[3, 3\], got \[\]"),
        (structure(site("H", abc=[0, 0])), r"`sites.abc` must have shape \[1, 3\], got \[1, 2\]"),
        (structure(site("H"), site("H", abc=[0, 0])), "`sites.abc` must be numbers in shape"),
        (structure({"species": [{"element": "H", "occu": 1}]}), "the site has no `xyz`"),
        (structure(site("H", properties=[1])), "`properties` of a site must be an object"),
        (structure(site("H"), pbc=[True]), r"`lattice.pbc` must have shape \[3\], got \[1\]"),
    ],
)
def test_what_is_missing_or_of_another_shape_is_said(value, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_structure(value)
    assert "\n" not in str(caught.value)


def test_site_properties_are_of_all_sites_or_of_none():
    found = read_structure(
        structure(
            site("H", properties={"forces": [1, 2, 3], "magmom": 0.5, "charge": None}),
            site("H", properties={"forces": [4, 5, 6], "magmom": None}),
        )
    )
    assert found.site_property("forces") == [[1, 2, 3], [4, 5, 6]]
    assert found.site_property("charge") is None
    assert found.site_property("absent") is None
    with pytest.raises(ValueError, match="1 of 2 sites have no property 'magmom'"):
        found.site_property("magmom")
    assert read_structure(structure(site("H", properties=None))).site_property("forces") is None


def test_a_compressive_stress_of_vasp_is_negative_in_electronvolt():
    stress = to_stress([[1602.1766208, 16.0, 0], [16.0, -10, 0], [0, 0, 0]])
    assert stress is not None
    np.testing.assert_allclose(stress[0, 0], -1.0, rtol=1e-7)  # 160.21766208 GPa = 1 eV/Å^3
    np.testing.assert_allclose(stress[0, 1], -1.6 * units.GPa, rtol=1e-14)
    np.testing.assert_allclose(stress[1, 1], 1.0 * units.GPa, rtol=1e-14)
    assert to_stress(None) is None


def test_a_stress_of_six_components_is_refused_since_their_order_is_not_known():
    with pytest.raises(ValueError, match=r"`stress` must have shape \[3, 3\], got \[6\]"):
        to_stress([1, 2, 3, 4, 5, 6])


def test_labels_that_are_absent_are_none_and_never_zero():
    assert to_energy(None) is None
    assert to_energy(float("nan")) is None
    assert to_energy(-3) == -3.0
    assert to_energy(0.0) == 0.0
    assert to_forces(None, n_atoms=2) is None


@pytest.mark.parametrize("value", ["low", [1.0], {"value": 1.0}])
def test_an_energy_that_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="`energy` must"):
        to_energy(value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1, 2, 3]], r"must have shape \[2, 3\], got \[1, 3\]"),
        ([[1, 2, 3], [4, 5]], r"must be numbers in shape \[2, 3\]: .*inhomogeneous"),
        ([], r"must have shape \[2, 3\], got \[0\]"),
        ("unknown", r"must be numbers in shape \[2, 3\]"),
    ],
)
def test_forces_of_another_shape_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        to_forces(values, n_atoms=2)
