"""Ways to write down the same atoms, or copies of them."""

import numpy as np
import torch

from gfm_models.derivatives import predict
from gfm_models.graph import batch_graphs
from gfm_models.potential import MultiHeadPotential
from gfm_models.testing.comparison import (
    assert_close,
    assert_same,
    predict_structure,
    tolerance_of,
)
from gfm_models.testing.structures import FAR, Structure, crystal, molecule, single_atom


def check_rotation(potential: MultiHeadPotential, head: str) -> None:
    """Rotations and reflections leave the energy and turn forces and stress with them."""
    tolerance = tolerance_of(potential)
    for structure in (molecule(potential, head), crystal(potential, head)):
        before = predict_structure(potential, head, structure)
        for seed, sign in ((0, 1.0), (1, -1.0)):
            turn = _rotation(seed) * sign
            turned = structure.moved(structure.positions @ turn.T, structure.cell @ turn.T)
            after = predict_structure(potential, head, turned)
            q = torch.from_numpy(turn)
            assert_close("energy", after.energy, before.energy, tolerance.same)
            assert_close("forces", after.forces, before.forces @ q.T, tolerance.same)
            assert_close("virial", after.virial, q @ before.virial @ q.T, tolerance.same)


def check_translation(potential: MultiHeadPotential, head: str) -> None:
    """Shifting all atoms changes nothing; neither does moving one by a lattice vector."""
    for structure in (molecule(potential, head), crystal(potential, head)):
        before = predict_structure(potential, head, structure)
        positions = structure.positions + np.array([0.3, -17.0, 4.0])
        positions[0] += 2 * structure.cell[0] - structure.cell[2]
        after = predict_structure(potential, head, structure.moved(positions))
        assert_same(after, before, tolerance_of(potential).same)


def check_permutation(potential: MultiHeadPotential, head: str) -> None:
    """The order of the atoms is the order of their forces and nothing else."""
    for structure in (molecule(potential, head), crystal(potential, head)):
        order = np.random.default_rng(2).permutation(len(structure.numbers))
        shuffled = Structure(
            numbers=structure.numbers[order],
            positions=structure.positions[order],
            cell=structure.cell,
            pbc=structure.pbc,
        )
        before, after = (predict_structure(potential, head, s) for s in (structure, shuffled))
        tolerance = tolerance_of(potential).same
        assert_close("energy", after.energy, before.energy, tolerance)
        assert_close("forces", after.forces, before.forces[order], tolerance)


def check_left_handed_cell(potential: MultiHeadPotential, head: str) -> None:
    """Two lattice vectors in the other order describe the same crystal."""
    structure = crystal(potential, head)
    swapped = structure.moved(structure.positions, structure.cell[[1, 0, 2]])
    before, after = (predict_structure(potential, head, s) for s in (structure, swapped))
    assert_same(after, before, tolerance_of(potential).same)


def check_supercell(potential: MultiHeadPotential, head: str) -> None:
    """A repeated cell has the energy of its copies and the same stress."""
    structure = crystal(potential, head)
    repeats = [np.array(i) for i in np.ndindex(2, 1, 2)]
    supercell = Structure(
        numbers=np.tile(structure.numbers, len(repeats)),
        positions=np.concatenate([structure.positions + i @ structure.cell for i in repeats]),
        cell=structure.cell * np.array([[2.0], [1.0], [2.0]]),
        pbc=structure.pbc,
    )
    one, many = (predict_structure(potential, head, s) for s in (structure, supercell))
    tolerance = tolerance_of(potential).same
    assert_close("energy", many.energy, one.energy * len(repeats), tolerance)
    assert_close("virial", many.virial, one.virial * len(repeats), tolerance)


def check_extensivity(potential: MultiHeadPotential, head: str) -> None:
    """Two copies far apart have twice the energy and the same forces."""
    structure = molecule(potential, head)
    pair = Structure(
        numbers=np.tile(structure.numbers, 2),
        positions=np.concatenate(
            [structure.positions, structure.positions + np.array([FAR, 0, 0])]
        ),
        cell=structure.cell,
        pbc=structure.pbc,
    )
    one, two = (predict_structure(potential, head, s) for s in (structure, pair))
    tolerance = tolerance_of(potential).same
    assert_close("energy", two.energy, 2 * one.energy, tolerance)
    assert_close("forces", two.forces, torch.cat([one.forces, one.forces]), tolerance)


def check_mixed_periodicity(potential: MultiHeadPotential, head: str) -> None:
    """Periodic directions with images far away, or fewer of them, do not matter."""
    structure = molecule(potential, head)
    before = predict_structure(potential, head, structure)
    for pbc in ([True, False, False], [True, False, True], [True, True, True]):
        boxed = Structure(
            numbers=structure.numbers,
            positions=structure.positions,
            cell=np.diag(2 * FAR * np.array(pbc)),
            pbc=np.array(pbc),
        )
        after = predict_structure(potential, head, boxed)
        assert_same(after, before, tolerance_of(potential).same)


def check_batching(potential: MultiHeadPotential, head: str) -> None:
    """A batch gives what its structures give one by one."""
    structures = [molecule(potential, head), crystal(potential, head)]
    graphs = [s.graph(potential.cutoff) for s in structures]
    graphs.append(single_atom(potential, head).graph(potential.cutoff))
    batch = predict(potential, batch_graphs(graphs), head)
    singles = [predict(potential, graph, head) for graph in graphs]
    tolerance = tolerance_of(potential).same
    for field in ("energy", "atomic_energies", "forces", "virial"):
        expected = torch.cat([getattr(single, field) for single in singles])
        assert_close(field, getattr(batch, field), expected, tolerance)


def _rotation(seed: int) -> np.ndarray:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))
