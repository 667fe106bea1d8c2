import io
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write
from gfm_pretrain.data.structure import LabelledStructure, to_atoms


@pytest.fixture
def crystal() -> LabelledStructure:
    """A sheared cell of two atoms with every label."""
    return LabelledStructure(
        atomic_numbers=np.array([3, 28]),
        positions=np.array([[0.0, 0.0, 0.0], [1.5, 1.6, 1.7]]),
        cell=np.array([[3.0, 0.0, 0.0], [0.4, 3.1, 0.0], [0.0, 0.2, 3.2]]),
        pbc=np.array([True, True, True]),
        energy=-7.5,
        forces=np.array([[0.1, -0.2, 0.3], [-0.1, 0.2, -0.3]]),
        stress=np.array([[0.01, 0.06, 0.05], [0.06, 0.02, 0.04], [0.05, 0.04, 0.03]]),
        identifier="crystals:5",
    )


def test_labels_default_to_absent(crystal):
    bare = replace(crystal, energy=None, forces=None, stress=None)
    assert bare.n_atoms == 2
    calculator = to_atoms(bare).calc
    assert calculator is not None
    assert calculator.results == {}


def test_fields_cannot_be_replaced(crystal):
    with pytest.raises(FrozenInstanceError):
        crystal.energy = 0.0


def test_to_atoms_holds_geometry_and_labels(crystal):
    atoms = to_atoms(crystal)
    np.testing.assert_array_equal(atoms.numbers, crystal.atomic_numbers)
    np.testing.assert_array_equal(atoms.positions, crystal.positions)
    np.testing.assert_array_equal(atoms.cell.array, crystal.cell)
    assert atoms.pbc.all()
    assert atoms.get_potential_energy() == -7.5
    np.testing.assert_array_equal(atoms.get_forces(), crystal.forces)
    np.testing.assert_array_equal(atoms.get_stress(voigt=False), crystal.stress)
    np.testing.assert_allclose(atoms.get_stress(), [0.01, 0.02, 0.03, 0.04, 0.05, 0.06])


def test_to_atoms_shares_no_memory(crystal):
    atoms = to_atoms(crystal)
    atoms.positions += 1.0
    assert atoms.calc is not None
    atoms.calc.results["forces"] += 1.0
    assert crystal.positions[0, 0] == 0.0
    assert crystal.forces is not None
    assert crystal.forces[0, 0] == 0.1


def test_ase_can_write_and_read_the_atoms(crystal):
    file = io.StringIO()
    write(file, to_atoms(crystal), format="extxyz")
    file.seek(0)
    atoms = read(file, format="extxyz")
    assert isinstance(atoms, Atoms)
    assert atoms.info["source_id"] == "crystals:5"
    np.testing.assert_allclose(atoms.get_stress(voigt=False), crystal.stress, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": np.zeros((3, 3))}, r"`positions` must have shape \[2, 3\], got \[3, 3\]"),
        ({"positions": np.full((2, 3), np.nan)}, "`positions` must be finite, got 6 values"),
        ({"positions": np.zeros((2, 3), np.float32)}, "`positions` must be float64, got float32"),
        ({"atomic_numbers": np.array([1.0, 1.0])}, "`atomic_numbers` must be int64, got float64"),
        ({"atomic_numbers": np.array([0, 1])}, "`atomic_numbers` must lie in 1 … 118, got 0 … 1"),
        ({"atomic_numbers": np.array([1, 119])}, "got 1 … 119"),
        ({"cell": np.zeros(3)}, r"`cell` must have shape \[3, 3\], got \[3\]"),
        ({"pbc": np.array([1, 1, 1])}, "`pbc` must be bool, got int64"),
        ({"energy": np.inf}, "`energy` must be finite, got inf"),
        ({"forces": np.zeros((2, 2))}, r"`forces` must have shape \[2, 3\], got \[2, 2\]"),
        ({"forces": np.full((2, 3), np.inf)}, "`forces` must be finite"),
        ({"stress": np.zeros(6)}, r"`stress` must have shape \[3, 3\], got \[6\]"),
        ({"stress": np.triu(np.ones((3, 3)))}, "`stress` must be symmetric"),
        ({"stress": np.full((3, 3), np.nan)}, "`stress` must be finite"),
        ({"cell": np.ones((3, 3))}, "a stress needs three independent cell vectors"),
        ({"cell": np.diag([3.0, 3.0, 0.0])}, r"`pbc\[2\]` is true but cell vector 2 is zero"),
    ],
)
def test_errors_name_the_structure_and_the_field(crystal, changes, message):
    with pytest.raises(ValueError, match=f"structure crystals:5: .*{message}"):
        replace(crystal, **changes)


def test_no_atoms_is_an_error(crystal):
    with pytest.raises(ValueError, match="there are no atoms"):
        replace(crystal, atomic_numbers=np.zeros(0, np.int64), positions=np.zeros((0, 3)))


def test_a_slab_may_have_a_stress_but_a_molecule_may_not(crystal):
    slab = replace(crystal, pbc=np.array([True, True, False]))
    assert slab.stress is not None
    with pytest.raises(ValueError, match="give the cell or remove the stress"):
        replace(crystal, pbc=np.zeros(3, np.bool_), cell=np.zeros((3, 3)))
