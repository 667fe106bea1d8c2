from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from gfm_pretrain.data.labels import (
    ChosenKeys,
    FoundLabels,
    LabelKeys,
    choose_keys,
    count_keys,
    read_labels,
    tabulate_labels,
)

FILE = Path("set.xyz")
FORCES = np.array([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]])


def pair(*, periodic: bool = False, **info: object) -> Atoms:
    """An O–H pair with further values in `info`."""
    cell = [4.0, 5.0, 6.0] if periodic else None
    return Atoms("OH", [[0, 0, 0], [0, 0, 0.96]], cell=cell, pbc=periodic, info=info)


def labels_of(*frames: Atoms, keys: LabelKeys | None = None) -> tuple[ChosenKeys, FoundLabels]:
    """The keys chosen over some frames, and the labels of the last."""
    chosen = choose_keys(count_keys(frames), keys=keys or LabelKeys(), path=FILE)
    return chosen, read_labels(frames[-1], chosen)


def test_labels_are_found_in_all_three_places():
    in_info, in_arrays, in_calculator = pair(energy=-5.0), pair(), pair()
    in_arrays.arrays["forces"] = FORCES
    in_calculator.calc = SinglePointCalculator(in_calculator, energy=-7.0, forces=FORCES)
    assert labels_of(in_info)[1].energy == -5.0
    np.testing.assert_array_equal(labels_of(in_arrays)[1].forces, FORCES)
    found = labels_of(in_calculator)[1]
    assert found.energy == -7.0
    np.testing.assert_array_equal(found.forces, FORCES)


def test_ref_keys_win_over_those_of_the_calculator():
    atoms = pair(REF_energy=-6.5)
    atoms.arrays["REF_forces"] = FORCES
    atoms.calc = SinglePointCalculator(atoms, energy=-5.5, forces=0 * FORCES)
    chosen, found = labels_of(atoms)
    assert found.energy == -6.5
    np.testing.assert_array_equal(found.forces, FORCES)
    table = tabulate_labels(count_keys([atoms]), chosen, path=FILE, n_structures=1)
    assert table.rows() == [
        ("energy", "REF_energy", "1 of 1", "energy"),
        ("forces", "REF_forces", "1 of 1", "forces"),
        ("stress", "-", "0 of 1", "-"),
    ]


def test_one_key_holds_for_all_frames():
    """A frame without the chosen key has no label, whatever else it has."""
    _, found = labels_of(pair(REF_energy=-1.0), pair(energy=-100.0))
    assert found.energy is None


def test_free_energy_is_not_taken_for_the_energy_unless_named():
    with pytest.raises(ValueError, match=r"set\.xyz: no structure has an energy or forces"):
        labels_of(pair(free_energy=-3.0))
    chosen, found = labels_of(pair(free_energy=-3.0), keys=LabelKeys(energy="free_energy"))
    assert (chosen.energy, found.energy) == ("free_energy", -3.0)


def test_forces_alone_and_energies_alone_are_enough():
    with_forces = pair()
    with_forces.arrays["forces"] = FORCES
    assert labels_of(with_forces)[1].energy is None
    assert labels_of(pair(energy=-1.0))[1].forces is None


def test_what_was_looked_through_is_said():
    with pytest.raises(ValueError, match="no structure among the first 10 has an energy or forces"):
        choose_keys({}, keys=LabelKeys(), path=FILE, among=" among the first 10")
    with pytest.raises(ValueError, match="no structure among the first 10 has the stress key 's'"):
        choose_keys({}, keys=LabelKeys(stress="s"), path=FILE, among=" among the first 10")


@pytest.mark.parametrize("shape", [(3, 3), (9,)])
def test_stress_of_nine_numbers(shape):
    stress = np.array([[1.0, 6, 5], [6, 2, 4], [5, 4, 3]])
    found = labels_of(pair(energy=0.0, periodic=True, stress=stress.reshape(shape)))[1]
    np.testing.assert_array_equal(found.stress, stress)


def test_stress_of_six_numbers_is_in_the_order_of_ase():
    atoms = bulk("Cu", "fcc", 3.5, cubic=True)
    atoms.rattle(0.05, seed=0)
    atoms.calc = EMT()
    atoms.info |= {"energy": 0.0, "stress": atoms.get_stress(voigt=True)}
    expected = atoms.get_stress(voigt=False)
    atoms.calc = None
    np.testing.assert_array_equal(labels_of(atoms)[1].stress, expected)


def test_virial_has_the_sign_of_ase():
    """The virial -dE/d(strain), by finite differences, gives the stress of an ASE calculator."""
    atoms = bulk("Cu", "fcc", 3.5, cubic=True)
    atoms.rattle(0.05, seed=0)
    atoms.calc = EMT()
    virial, h = np.zeros((3, 3)), 1e-5
    for i, j in np.ndindex(3, 3):
        energies = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[i, j] += sign * h / 2
            strain[j, i] += sign * h / 2
            strained = atoms.copy()
            strained.calc = EMT()
            strained.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
            energies.append(strained.get_potential_energy())
        virial[i, j] = -(energies[0] - energies[1]) / (2 * h)
    stress = atoms.get_stress(voigt=False)
    assert stress[0, 0] < 0  # compressed
    labelled = atoms.copy()
    labelled.info |= {"virial": virial, "REF_energy": 0.0}
    found = labels_of(labelled)[1].stress
    assert found is not None
    np.testing.assert_allclose(found, stress, atol=1e-7)


def test_small_asymmetry_is_averaged_and_a_large_one_refused():
    stress = np.array([[1.0, 0.100002, 0], [0.1, 1, 0], [0, 0, 1]])
    found = labels_of(pair(energy=0.0, periodic=True, REF_stress=stress))[1].stress
    assert found is not None
    assert found[0, 1] == found[1, 0] == pytest.approx(0.100001)
    stress[0, 1] = 0.2
    with pytest.raises(ValueError, match=r"the stress from 'REF_stress' is not symmetric"):
        labels_of(pair(energy=0.0, periodic=True, REF_stress=stress))


def test_a_virial_key_is_not_taken_for_a_stress():
    with pytest.raises(ValueError, match="pass it as virial='dft_virial'"):
        LabelKeys(stress="dft_virial")
    with pytest.raises(ValueError, match="not both"):
        LabelKeys(stress="s", virial="w")
