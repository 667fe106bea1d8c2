import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from ase.units import GPa
from audit_cases import copper, crystal, make_structure, rescaled, springs
from gfm_pretrain.data.audit.consistency import Consistency
from gfm_pretrain.data.audit.pressure_offsets import PressureOffsets
from gfm_pretrain.data.audit.ratios import Ratios
from gfm_pretrain.data.audit.shear_orders import ORDERS, ShearOrders, name_of, works_of_stress
from gfm_pretrain.data.audit.verdicts import (
    FORCE_RATIOS,
    Verdict,
    judge_consistency,
    judge_energies,
)
from gfm_pretrain.data.structure import LabelledStructure

HARTREE, BOHR = 27.2114, 0.529177
SQUARE = np.array([[0, 0, 0], [1.5, 0, 0], [0, 1.5, 0], [1.5, 1.5, 0]])


def follow(structures: Iterable[LabelledStructure]) -> Consistency:
    """What the pairs of a trajectory tell."""
    consistency = Consistency()
    for first, second in pairwise(structures):
        consistency.add(first, second)
    return consistency


def judge(structures: Iterable[LabelledStructure]) -> tuple[Verdict, Verdict]:
    """Of the forces and of the stress."""
    forces, stress = judge_consistency(follow(structures))
    return forces, stress


def test_energies_and_forces_of_one_potential_agree():
    forces, stress = judge(springs())
    assert forces == Verdict("good", "energies and forces agree (29 pairs)")
    assert stress.mark == "unknown"
    assert stress.text.startswith("stress cannot be checked: 0 pairs")


@pytest.mark.parametrize(
    ("factors", "text"),
    [
        ({"forces": 1 / HARTREE}, "the forces look like Hartree/Å"),
        ({"energy": 1 / HARTREE}, "the energies look like Hartree"),
        ({"forces": BOHR / HARTREE}, "the forces look like Hartree/bohr"),
        ({"forces": BOHR}, "the forces look like eV/bohr"),
        ({"positions": 1 / BOHR}, "the positions look like bohr"),
        ({"energy": 23.0605}, "the energies look like kcal/mol"),
        ({"forces": 23.0605}, "the forces look like kcal/mol/Å"),
        ({"forces": 96.4853}, "the forces look like kJ/mol/Å"),
        ({"energy": 1 / 13.6057}, "the energies look like Rydberg"),
        ({"energy": 1 / 3}, "the energies look like energies per atom"),
    ],
)
def test_wrong_units_are_named(factors, text):
    half = [rescaled(s, positions=0.5, forces=2.0) for s in springs()]  # near also in bohr
    forces, _ = judge(rescaled(s, **factors) for s in half)
    assert forces.mark == "suspicious"
    assert forces.text.startswith(text)
    assert "29 pairs" in forces.text


@pytest.mark.parametrize(
    ("factor", "text"),
    [
        (-1, "the sign of the forces is wrong ("),
        (-1 / HARTREE, "the sign of the forces is wrong and the forces look like Hartree/Å"),
        (1 / 7, "energies and forces disagree by a factor that no unit explains (the energy"),
    ],
)
def test_signs_and_factors_that_no_unit_explains(factor, text):
    forces, _ = judge(rescaled(s, forces=factor) for s in springs())
    assert forces.mark == "suspicious"
    assert forces.text.startswith(text)


def test_forces_that_are_zero_in_place_of_absent_are_found():
    forces, _ = judge(rescaled(s, forces=0.0) for s in springs())
    assert forces.mark == "suspicious"
    assert "forces do no work" in forces.text


def test_one_energy_for_a_whole_trajectory_is_found():
    forces, _ = judge(replace(s, energy=-3.0) for s in springs())
    assert forces.mark == "suspicious"
    assert "the energy stays the same where the forces do work" in forces.text


def test_forces_of_other_structures_are_not_called_good():
    random = np.random.default_rng(1)
    forces, _ = judge(replace(s, forces=random.normal(size=(3, 3))) for s in springs(60))
    assert forces.mark == "unknown"
    assert "energies do not follow the forces closely" in forces.text


def test_the_stress_of_a_calculator_agrees():
    forces, stress = judge(copper())
    assert forces.text.startswith("forces cannot be checked: 0 pairs of successive config")
    assert stress.mark == "good"
    assert stress.text.startswith("energies and stress agree")


def test_the_forces_of_a_calculator_agree():
    forces, stress = judge(copper(rattle=0.1, strain=0.0))
    assert forces.mark == "good"
    assert stress.text.startswith("stress cannot be checked: 0 pairs")


def test_a_few_pairs_are_not_enough():
    assert judge(springs(10))[0].mark == "unknown"
    assert judge(springs(11))[0].mark == "good"


@pytest.mark.parametrize(
    ("factor", "text"),
    [
        (-1, "the sign of the stress is wrong ("),
        (1602.18, "the stress looks like kbar"),
        (-1602.18, "the sign of the stress is wrong and the stress looks like kbar"),
        (160.218, "the stress looks like GPa"),
    ],
)
def test_unit_and_sign_of_the_stress(factor, text):
    _, stress = judge(rescaled(s, stress=factor) for s in copper(40, rattle=0.001))
    assert stress.mark == "suspicious"
    assert stress.text.startswith(text)


def taken_for(structure: LabelledStructure, order: tuple[int, int, int]) -> LabelledStructure:
    """With the shear components of the stress in other places: yz where `order` has 0, …"""
    assert structure.stress is not None
    rows, columns = np.array([1, 0, 0]), np.array([2, 2, 1])
    shear = np.empty(3)
    shear[list(order)] = structure.stress[rows, columns]
    stress = np.diag(np.diag(structure.stress))
    stress[rows, columns] = stress[columns, rows] = shear
    return replace(structure, stress=stress)


@pytest.mark.parametrize("order", ORDERS[1:])
def test_a_wrong_order_of_the_stress_is_named(order):
    *_, shear = judge_consistency(follow(taken_for(s, order) for s in copper(60, rattle=0.001)))
    assert shear.mark == "suspicious"
    wanted = f"only if its yz, xz, xy are taken for {name_of(ORDERS.index(order))}, in "
    assert wanted in shear.text


def test_of_the_right_order_nothing_is_said():
    consistency = follow(copper(60, rattle=0.001))
    assert len(consistency.shear) > 20
    assert len(judge_consistency(consistency)) == 2


def test_a_wrong_order_in_a_part_of_a_set_is_found():
    frames = [*copper(150, rattle=0.001)]
    wrong = [taken_for(s, (1, 0, 2)) for s in frames[75:]]
    *_, shear = judge_consistency(follow([*frames[:75], *wrong]))
    assert "are taken for xz, yz, xy" in shear.text


def test_a_wrong_unit_is_neither_a_wrong_order_nor_an_offset():
    consistency = follow(rescaled(s, stress=160.218) for s in copper(60, rattle=0.001))
    assert len(judge_consistency(consistency)) == 2


def under_pressure(structure: LabelledStructure, pressure: float) -> LabelledStructure:
    """With a stress that says as much less, in GPa."""
    assert structure.stress is not None
    return replace(structure, stress=structure.stress + pressure * GPa * np.eye(3))


@pytest.mark.parametrize(("pressure", "text"), [(3.0, "GPa higher"), (-4.0, "GPa lower")])
def test_an_offset_of_the_pressure_is_named(pressure, text):
    frames = [under_pressure(s, pressure) for s in copper(40, rattle=0.001)]
    consistency = follow(frames)
    *_, offset = judge_consistency(consistency)
    assert offset.mark == "suspicious"
    assert re.match(r"in \d\d of \d\d pairs the energy changes as if", offset.text)
    assert f"{text} than the stress says" in offset.text
    assert abs(consistency.offsets.commonest()[0] - pressure) < 0.3


def test_an_offset_in_a_part_of_a_set_is_found():
    frames = [*copper(80, rattle=0.001)]
    consistency = follow([*frames[:40], *(under_pressure(s, 3.0) for s in frames[40:])])
    assert "GPa higher than the stress says" in judge_consistency(consistency)[-1].text


def test_a_small_offset_is_not_named():
    consistency = follow(under_pressure(s, 1.0) for s in copper(60, rattle=0.001))
    assert len(consistency.offsets) > 20
    assert len(judge_consistency(consistency)) == 2


def test_pressures_that_scatter_have_no_offset():
    random = np.random.default_rng(0)
    offsets = PressureOffsets()
    for missing in random.uniform(-5, 5, size=1000):
        offsets.add(missing, volume=100.0, swelling=10.0)
    assert offsets.commonest()[1] < 40
    offsets.add(1.0, volume=100.0, swelling=0.9)
    assert len(offsets) == 1000


def test_the_work_in_each_order():
    virial = np.array([[1.0, 5, 3], [5, 10, 2], [3, 2, 100]])
    strain = np.zeros((3, 3))
    strain[1, 2] = strain[2, 1] = 0.5
    strain[0, 0] = 7.0
    for order, work in zip(ORDERS, works_of_stress(virial, strain), strict=True):
        assert work == 7 + (2, 3, 5)[order[0]]


def test_pairs_in_which_the_order_decides_nothing_do_not_count():
    shear = ShearOrders()
    shear.add(1.0, np.full(6, 1.0))
    shear.add(1.0, np.array([1.0, 1, 1, 1, 1, 0.9]))
    assert len(shear) == 0
    shear.add(1.0, np.array([1.0, 1, 1, 1, 1, 0.7]))
    assert (len(shear), shear.counts[0], shear.other()[1]) == (1, 1, 0)


@pytest.mark.parametrize(
    "other",
    [
        {"atomic_numbers": np.array([1, 1, 1, 2])},
        {"energy": None},
        {"forces": None},
        {"positions": SQUARE + np.outer([0, 0, 0, 1.1], [0, 0, 1])},
        {"positions": SQUARE + np.array([0, 0, 0.4])},
        {"cell": np.eye(3)},
        {"cell": np.eye(3), "pbc": np.array([True, False, False])},
    ],
)
def test_what_cannot_be_compared_is_passed_over(other):
    first = make_structure(SQUARE, forces=np.ones((4, 3)))
    second = replace(first, positions=first.positions + 0.1, energy=5.0)
    assert len(follow([first, second]).forces) == 1
    compared = follow([first, replace(second, **other)])
    assert not any(compared.to_mapping().values())


def test_cells_of_another_shape_are_passed_over():
    frames = [*copper(6, rattle=0.0)]
    turned = [replace(s, cell=np.roll(s.cell, n, axis=0)) for n, s in enumerate(frames)]
    assert len(follow(frames).stress) > 2
    assert len(follow(turned).stress) == 0


def test_the_largest_strain():
    small, near, far = (crystal(side, stress=np.eye(3)) for side in (3.0, 3.2, 3.4))
    assert len(follow([small, near]).stress) == 1
    assert len(follow([small, far]).stress) == 0


def test_the_work_of_the_forces_is_taken_off_that_of_the_stress():
    labels = {"stress": 0.02 * np.eye(3), "forces": np.array([[0.15, 0, 0], [-0.15, 0, 0]])}
    atoms = np.array([[0, 0, 0], [2.0, 2, 2]])
    periodic = {"cell": 4 * np.eye(3), "pbc": np.ones(3, dtype=bool)}
    first = make_structure(atoms, energy=0.0, **labels, **periodic)
    motion = 0.15 * 0.1
    swelling = 3 * 0.02 * (4**3 + 4.04**3) / 2 * (0.04 / 4.02)
    second = replace(
        first,
        positions=atoms * 1.01 + [[0, 0, 0], [0.1, 0, 0]],
        cell=4.04 * np.eye(3),
        energy=motion + swelling,
    )
    assert follow([first, second]).stress.quantile(0.5) == pytest.approx(1, rel=0.015)


def test_atoms_far_from_the_origin_move_with_the_cell():
    frames = [*copper(6)]
    moved = [replace(s, positions=s.positions + 9 * s.cell.sum(axis=0)) for s in frames]
    assert len(follow(frames).stress) > 0
    assert follow(moved).to_mapping() == follow(frames).to_mapping()


def test_parts_merge_exactly_in_any_order():
    frames = [*springs(20), *copper(20)]
    whole = follow(frames)
    parts = [follow(frames[:11]), follow(frames[10:26]), follow(frames[25:])]
    for order in (parts, parts[::-1]):
        merged = Consistency()
        for part in order:
            merged.merge(part)
        assert merged.to_mapping() == whole.to_mapping()
    assert Consistency.from_mapping(whole.to_mapping()).to_mapping() == whole.to_mapping()


def test_ratios_find_the_median_among_outliers():
    ratios = Ratios()
    for change in (-100.0, 1.0, 1.0, 1.0, 1e9):
        ratios.add(change, 1.0)
    assert ratios.quantile(0.5) == pytest.approx(1, rel=0.02)
    assert ratios.quantile(0.01) == pytest.approx(-100, rel=0.02)
    assert ratios.quantile(1.0) == pytest.approx(1e5, rel=0.02)


def test_pairs_in_which_nothing_happens_do_not_count():
    ratios = Ratios()
    ratios.add(0.009, -0.009)
    assert len(ratios) == 0
    ratios.add(0.0, 0.011)
    ratios.add(0.011, 0.0)
    assert len(ratios) == 2


def test_units_can_be_told_apart_by_their_ratio():
    logarithms = np.sort(np.log(list(FORCE_RATIOS)))
    assert np.diff(logarithms).min() > 2 * 0.02


def test_composition_must_explain_the_energies():
    assert judge_energies(None).mark == "unknown"
    assert judge_energies(0.3) == Verdict(
        "good", "without E0, the energies spread by 0.3 eV per atom"
    )
    assert judge_energies(51).mark == "suspicious"
