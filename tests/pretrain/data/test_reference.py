from collections.abc import Sequence

import numpy as np
import pytest
from gfm_pretrain.data.reference import (
    fit_reference_energies,
    force_scales,
    isolated_atom_energies,
    resolve_reference_energies,
)
from gfm_pretrain.data.structure import LabelledStructure
from gfm_pretrain.data.structure_set import StructureSet, in_memory
from hydrogen import in_shards

E0 = {1: -13.6, 6: -1029.5, 8: -2042.0}


def molecule(
    numbers: Sequence[int],
    energy: float | None = None,
    forces: np.ndarray | None = None,
    periodic: bool = False,
) -> LabelledStructure:
    n = len(numbers)
    return LabelledStructure(
        atomic_numbers=np.array(numbers),
        positions=np.arange(3.0 * n).reshape(n, 3),
        cell=np.eye(3) * 10.0 * periodic,
        pbc=np.full(3, periodic),
        energy=energy,
        forces=forces,
        identifier=f"set:{numbers}",
    )


def set_of(*structures: LabelledStructure) -> StructureSet:
    return in_memory(structures, cutoff=1.0)


def sum_of_atoms(numbers: Sequence[int]) -> float:
    return sum(E0[z] for z in numbers)


WATER, METHANE, CARBON_DIOXIDE, METHANOL = [8, 1, 1], [6, 1, 1, 1, 1], [6, 8, 8], [6, 8, 1, 1, 1, 1]


def test_isolated_atoms_are_single_and_not_periodic():
    structures = [
        molecule([1], -13.6),
        molecule([1], -13.60001),
        molecule([8]),
        molecule([6], -9.0, periodic=True),
        molecule(WATER, -2070.0),
    ]
    assert isolated_atom_energies(set_of(*structures)) == {1: -13.6}


def test_contradicting_isolated_atoms_are_refused():
    with pytest.raises(
        ValueError, match=r"isolated H atoms have different energies: .*-13\.6.*-12"
    ):
        isolated_atom_energies(set_of(molecule([1], -13.6), molecule([1], -12.0)))


def test_fit_recovers_the_energies_of_non_interacting_atoms():
    molecules = (WATER, METHANE, CARBON_DIOXIDE, METHANOL)
    structures = [molecule(m, sum_of_atoms(m)) for m in molecules]
    fitted = fit_reference_energies(set_of(*structures, molecule([92])))
    assert fitted.values == pytest.approx(E0, abs=1e-8)
    assert "rank 3 of 3" in fitted.origin
    assert "undetermined" not in fitted.origin


def test_fit_ignores_a_wrong_label():
    rng = np.random.default_rng(0)
    molecules = (WATER, METHANE, CARBON_DIOXIDE, METHANOL) * 50
    structures = [molecule(m, sum_of_atoms(m) + len(m) * rng.normal(0.0, 1e-3)) for m in molecules]
    wrong = [molecule(WATER, sum_of_atoms(WATER) + 500.0)]
    assert fit_reference_energies(set_of(*structures, *wrong)).values == pytest.approx(E0, abs=5e-3)


def test_neither_fit_nor_scales_depend_on_shards():
    rng = np.random.default_rng(0)
    numbers = (WATER, METHANE, CARBON_DIOXIDE, METHANOL) * 3
    structures = [
        molecule(m, sum_of_atoms(m) + rng.normal(), forces=rng.normal(size=(len(m), 3)))
        for m in numbers
    ]
    given = rng.normal(size=12)
    whole, cut = set_of(*structures), in_shards(structures, 1, 4, 7)
    found, expected = (fit_reference_energies(s, interaction_energies=given) for s in (cut, whole))
    assert found.values == pytest.approx(expected.values, abs=1e-8)
    assert found.origin == expected.origin
    assert force_scales(cut) == pytest.approx(force_scales(whole), rel=1e-12)


def test_fit_subtracts_interaction_energies():
    molecules = (WATER, METHANE, CARBON_DIOXIDE)
    structures = [molecule(WATER), *(molecule(m, sum_of_atoms(m) + 7.0) for m in molecules)]
    fitted = fit_reference_energies(
        set_of(*structures), interaction_energies=np.array([99.0, 7, 7, 7])
    )
    assert fitted.values == pytest.approx(E0, abs=1e-8)


def test_one_composition_gives_every_element_the_mean_energy_per_atom():
    fitted = fit_reference_energies(set_of(*[molecule(METHANOL, -3126.0)] * 3))
    assert fitted.values == pytest.approx(dict.fromkeys((1, 6, 8), -521.0), abs=1e-8)
    assert "rank 1 of 3 elements; undetermined combinations stay at the mean" in fitted.origin


def test_undetermined_combinations_have_the_shortest_deviation_from_the_mean():
    """Carbon and oxygen always come as CO: their E0 are equal, the energies exact."""
    structures = [molecule([6, 8, 1], -3085.1), molecule([6, 8, 1, 1, 1], -3112.3)]
    values = fit_reference_energies(set_of(*structures)).values
    assert values[6] == pytest.approx(values[8], abs=1e-7)
    for s in structures:
        assert sum(values[int(z)] for z in s.atomic_numbers) == pytest.approx(s.energy, abs=1e-7)
    mean = (-3085.1 - 3112.3) / 8
    deviation = np.array([values[z] - mean for z in (1, 6, 8)])
    undetermined = np.array([0.0, 1.0, -1.0])
    assert deviation @ undetermined == pytest.approx(0.0, abs=1e-7)


def test_fit_errors():
    with pytest.raises(ValueError, match="no structure has an energy"):
        fit_reference_energies(set_of(molecule(WATER)))
    structures = [molecule(WATER, -1.0)]
    with pytest.raises(ValueError, match=r"must have shape \[1\], one per structure, got \[2\]"):
        fit_reference_energies(set_of(*structures), interaction_energies=np.zeros(2))
    with pytest.raises(ValueError, match="`interaction_energies` must be finite"):
        fit_reference_energies(set_of(*structures), interaction_energies=np.array([np.nan]))


def test_given_energies_are_used_and_checked():
    structures = [molecule(WATER, -2070.0)]
    resolved = resolve_reference_energies(
        set_of(*structures), {"O": -2042.0, "H": -13.6, "He": -78.0}
    )
    assert resolved.values == {1: -13.6, 2: -78.0, 8: -2042.0}
    assert resolved.origin == "given by the user"
    with pytest.raises(ValueError, match="missing for H, O; add them, or use 'fit'"):
        resolve_reference_energies(set_of(*structures), {"C": -1029.0})
    with pytest.raises(ValueError, match="'Oh', which is no chemical symbol"):
        resolve_reference_energies(set_of(*structures), {"Oh": -1.0, "H": -13.6, "O": -2042.0})
    with pytest.raises(ValueError, match="must be finite"):
        resolve_reference_energies(set_of(*structures), {"H": np.nan, "O": -2042.0})


@pytest.mark.parametrize("choice", [None, "auto", "isolated"])
def test_isolated_atoms_win_where_they_cover_all_elements(choice):
    structures = [molecule(WATER, -2070.0), molecule([1], -13.6), molecule([8], -2042.0)]
    resolved = resolve_reference_energies(set_of(*structures), choice)
    assert resolved.values == {1: -13.6, 8: -2042.0}
    assert resolved.origin == "isolated atoms in the data"


def test_auto_fits_where_an_isolated_atom_is_missing():
    structures = [molecule(WATER, sum_of_atoms(WATER)), molecule([1], -13.6)]
    resolved = resolve_reference_energies(set_of(*structures))
    assert resolved.values == pytest.approx({1: -13.6, 8: -2042.0}, abs=1e-8)
    assert resolved.origin.startswith("robust least squares of 2 energies")
    with pytest.raises(ValueError, match="no isolated atom of O; add them, or use 'fit'"):
        resolve_reference_energies(set_of(*structures), "isolated")


def test_fit_may_be_asked_for_and_an_unknown_choice_is_refused():
    structures = [molecule([1], -13.6), molecule([8], -2042.0)]
    assert resolve_reference_energies(set_of(*structures), "fit").origin.startswith(
        "robust least squares"
    )
    with pytest.raises(ValueError, match=r"'isolated', 'fit' or an energy .* got 'average'"):
        resolve_reference_energies(set_of(*structures), "average")


def test_force_scales_are_shrunk_toward_the_whole_set():
    many = molecule([1] * 1000, forces=np.full((1000, 3), 2.0))
    few = molecule([8], forces=np.full((1, 3), 50.0))
    unlabelled = molecule([6], energy=0.0)
    scales = force_scales(set_of(many, few, unlabelled))
    mean_square = (1000 * 2.0**2 + 50.0**2) / 1001
    assert scales[1] == pytest.approx(np.sqrt((1000 * 4.0 + 100 * mean_square) / 1100))
    assert scales[8] == pytest.approx(np.sqrt((2500.0 + 100 * mean_square) / 101))
    assert scales[6] == pytest.approx(np.sqrt(mean_square))


def test_force_scales_have_a_floor():
    assert force_scales(set_of(molecule(WATER, forces=np.zeros((3, 3))))) == {1: 0.01, 8: 0.01}
    assert force_scales(set_of(molecule(WATER, -2070.0))) == {1: 0.01, 8: 0.01}


def test_force_scale_without_forces_is_the_spread_of_the_energy_per_atom():
    structures = [molecule(WATER, -2070.0 + 3 * shift) for shift in (-0.2, 0.2) * 20]
    assert force_scales(set_of(*structures)) == pytest.approx({1: 0.2, 8: 0.2})
    with pytest.raises(ValueError, match="no structure has an energy"):
        force_scales(set_of(molecule(WATER)))
