import json

import numpy as np
import pytest
from audit_cases import copper, crystal, make_structure, pair, springs
from gfm_pretrain.data.audit.bins import Bins, Extent
from gfm_pretrain.data.audit.measures import measure
from gfm_pretrain.data.audit.statistics import Statistics
from gfm_pretrain.data.audit.summary import elements_in, summarise


def statistics_of(structures) -> Statistics:
    statistics = Statistics()
    for structure in structures:
        statistics.add(structure, measure(structure))
    return statistics


def test_what_is_counted():
    water = make_structure(
        [[0, 0, 0], [0, 0, 1], [0, 1, 0]], atomic_numbers=np.array([8, 1, 1]), forces=None
    )
    metal = crystal(3.0, stress=np.diag([-3.0, -3, -3]), energy=-4.0)
    statistics = statistics_of([water, metal, pair(energy=None)])
    assert (statistics.n_structures, statistics.n_atoms) == (3, 6)
    assert (statistics.n_energies, statistics.n_forces, statistics.n_stresses) == (2, 2, 1)
    assert statistics.periodic.tolist() == [2, 0, 0, 1]
    assert statistics.sizes == {3: 1, 1: 1, 2: 1}
    assert elements_in(statistics) == {"H": (2, 4), "O": (1, 1), "Cu": (1, 1)}
    assert statistics.shortest.low == 0.75
    assert (statistics.volume.low, statistics.volume.high) == pytest.approx((27, 27))
    assert statistics.pressure.high == 3
    assert (statistics.energy.low, statistics.energy.high) == (-4, pytest.approx(-1 / 3))


def test_forces_are_counted_by_their_length():
    forces = np.array([[0, 0, 2.0], [0, 0, -2.0]])
    statistics = statistics_of([pair(forces=forces), pair(forces=0 * forces)])
    counts = statistics.force_sizes
    assert counts.sum() == 4
    assert counts[0] == 2  # without force
    assert counts[53] == 2  # 10^0.3
    assert statistics.force.rms == pytest.approx(np.sqrt(2))


def test_energies_without_reference_are_added_at_the_end():
    statistics = Statistics()
    statistics.add_energies(np.array([0.5, np.nan, -0.5, 30.0]), {1: -13.6})
    assert statistics.interaction.n == 3
    assert statistics.interactions.sum() == 3
    assert statistics.interactions[-1] == 1
    assert statistics.interaction.spread == pytest.approx(np.std([0.5, -0.5, 30]))
    assert statistics.reference == {1: -13.6}


def test_parts_merge_in_any_order():
    structures = [*springs(5), *copper(3), crystal(3.0), pair()]
    whole = statistics_of(structures).to_mapping()
    for order in (1, -1):
        merged = Statistics()
        for part in [structures[:4], structures[4:7], structures[7:]][::order]:
            merged.merge(statistics_of(part))
        mapping = merged.to_mapping()
        for name, value in whole.items():
            if isinstance(value, list):
                assert mapping[name] == pytest.approx(value, rel=1e-12), name
            else:
                assert mapping[name] == value, name


def test_plain_values_give_the_same_back():
    statistics = statistics_of([*springs(3), *copper(2)])
    statistics.add_energies(np.array([0.5, -0.5]), {1: -13.6, 29: -4.0})
    mapping = json.loads(json.dumps(statistics.to_mapping(), allow_nan=False))
    again = Statistics.from_mapping(mapping)
    assert again.to_mapping() == statistics.to_mapping()
    again.merge(statistics)
    assert again.atoms_of[29] == 16
    assert again.sizes == {3: 6, 4: 4}


def test_nothing_is_plain_as_well():
    mapping = json.loads(json.dumps(Statistics().to_mapping(), allow_nan=False))
    assert Statistics.from_mapping(mapping).to_mapping() == mapping
    assert summarise(Statistics()) == [("structures", "none")]


def test_the_summary_leaves_out_what_there_is_not():
    rows = dict(summarise(statistics_of([pair(forces=None), pair(0.8, forces=None)])))
    assert rows["structures"] == "2"
    assert rows["periodicity"] == "2 molecules"
    assert rows["labels"] == "energy of 2"
    assert rows["shortest distance in a structure"] == "0.75 to 0.8 Å"
    assert not {"largest force", "pressure", "volume per atom"} & set(rows)


def test_pressures_are_in_gigapascal():
    rows = dict(summarise(statistics_of([crystal(3.0, stress=-np.eye(3))])))
    assert rows["pressure"] == "160.2 GPa"


def test_bins_take_what_lies_beyond_their_ends():
    bins = Bins(start=-2, stop=2, number=4)
    assert bins.count(np.array([-9, -2, -0.5, 0, 1.999, 2, 9])).tolist() == [2, 1, 1, 3]
    powers = Bins(start=-1, stop=2, number=3, logarithmic=True)
    assert powers.edges == pytest.approx([0.1, 1, 10, 100])
    assert powers.count(np.array([0, 0.5, 5, 1e9])).tolist() == [2, 1, 1]


def test_extents_of_nothing_change_nothing():
    extent = Extent()
    extent.add(np.array([]))
    assert extent.to_list() == []
    extent.add(np.array([3.0, -4.0]))
    assert (extent.low, extent.high) == (-4, 3)
    extent.merge(Extent())
    assert extent.rms == pytest.approx(np.sqrt(12.5))
    assert extent.spread == 3.5
