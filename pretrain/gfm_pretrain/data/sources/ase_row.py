"""Rows of ASE's databases as structures with labels, whatever file they are in."""

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db.row import AtomsRow


def atoms_of_row(row: AtomsRow) -> Atoms:
    """The structure of a row, its results in a calculator, its data and key-value pairs in `info`.

    `row.toatoms()` would make the constraints as well, of classes that may not be installed, and
    leave the data nested.
    """
    values = row.__dict__
    atoms = Atoms(
        numbers=np.asarray(values["numbers"]),
        positions=np.asarray(values["positions"]),
        cell=np.asarray(values["cell"]),
        pbc=np.asarray(values["pbc"]),
        info={**row.data, **row.key_value_pairs},
    )
    results = {name: values[name] for name in all_properties if values.get(name) is not None}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms
