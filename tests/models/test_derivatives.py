"""Forces, stress and Hessian: known physics first, then finite differences."""

import dataclasses

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from gfm_models.backbone import BackboneConfig
from gfm_models.derivatives import (
    hessian,
    predict,
    predict_energy,
    predict_unit_energies,
    predict_units,
    stress,
)
from gfm_models.graph import AtomicGraph, batch_graphs, graph_from_atoms
from gfm_models.heads import HeadConfig
from gfm_models.kernels.backend import BackendChoice
from gfm_models.potential import MultiHeadPotential, build_potential


def graph_of(atoms: Atoms, potential: MultiHeadPotential) -> AtomicGraph:
    return graph_from_atoms(atoms, cutoff=potential.cutoff)


def forces_of(atoms: Atoms, potential: MultiHeadPotential, head: str) -> torch.Tensor:
    return predict(potential, graph_of(atoms, potential), head).forces


@pytest.fixture
def repulsion(backbone_config: BackboneConfig) -> MultiHeadPotential:
    """A potential whose learned part is silent: only the short-range repulsion is left."""
    config = HeadConfig(level_of_theory="none", reference_energies={"Cu": 0.0}, scales={"Cu": 0.0})
    far = dataclasses.replace(backbone_config, repulsion_reach=1.0)
    return build_potential(far, {"zbl": config}, dtype=torch.float64)


def test_no_force_on_the_carbon_of_methane(potential: MultiHeadPotential) -> None:
    forces = forces_of(molecule("CH4"), potential, "organic")
    assert forces[0].abs().max() < 1e-12
    sizes = forces[1:].norm(dim=1)
    assert sizes[0] > 1e-2
    torch.testing.assert_close(sizes, sizes[0].expand(4), rtol=1e-10, atol=0)


def test_hydrogens_of_methane_are_pushed_along_their_bonds(potential: MultiHeadPotential) -> None:
    atoms = molecule("CH4")
    forces = forces_of(atoms, potential, "organic")[1:]
    bonds = torch.from_numpy(atoms.positions[1:] - atoms.positions[0])
    assert torch.linalg.cross(forces, bonds).abs().max() < 1e-12


def test_the_force_in_a_dimer_lies_along_the_bond(potential: MultiHeadPotential) -> None:
    bond = np.array([0.4, 0.5, -0.4])
    forces = forces_of(Atoms("H2", [[0, 0, 0], bond]), potential, "organic")
    assert torch.equal(forces[0], -forces[1])
    assert forces[0].norm() > 1e-2
    assert torch.linalg.cross(forces[0], torch.from_numpy(bond)).abs().max() < 1e-12


@pytest.mark.parametrize("structure", ["fcc", "bcc", "sc", "diamond"])
def test_no_forces_where_symmetry_forbids_them(
    potential: MultiHeadPotential, structure: str
) -> None:
    """Every atom is a centre of inversion, or in diamond of a tetrahedron."""
    atoms = bulk("Cu", structure, a=4.2, cubic=structure != "sc")
    assert forces_of(atoms, potential, "metals").abs().max() < 1e-12
    atoms.positions[0] += 0.1
    if len(atoms) > 1:
        assert forces_of(atoms, potential, "metals").abs().max() > 1e-4


def test_cubic_crystals_are_under_pressure_alone(potential: MultiHeadPotential) -> None:
    graph = graph_of(bulk("Cu"), potential)
    tensor = stress(predict(potential, graph, "metals").virial, graph)[0]
    pressure = tensor.diagonal().mean()
    assert pressure.abs() > 1e-6
    torch.testing.assert_close(tensor, pressure * torch.eye(3).double(), atol=1e-12, rtol=0)


def test_stress_is_negative_where_atoms_push_apart(repulsion: MultiHeadPotential) -> None:
    """ASE counts tension positive: a crystal under compression has negative stress."""
    graph = graph_of(bulk("Cu", "sc", a=1.5), repulsion)
    tensor = stress(predict(repulsion, graph, "zbl").virial, graph)[0]
    assert (tensor.diagonal() < -0.1).all()
    assert predict_energy(repulsion, graph, "zbl") > 0


def test_stress_of_a_chain_by_hand(repulsion: MultiHeadPotential) -> None:
    """One atom per cell, repelled along x alone: σ_xx = -f d / V with f the bond's force."""
    d, width = 2.0, 9.0
    dimer = forces_of(Atoms("Cu2", [[0, 0, 0], [d, 0, 0]]), repulsion, "zbl")
    graph = graph_of(Atoms("Cu", cell=[d, width, width], pbc=True), repulsion)
    expected = torch.zeros(3, 3, dtype=torch.float64)
    expected[0, 0] = -dimer[1, 0] * d / (d * width * width)
    assert expected[0, 0] < 0
    found = stress(predict(repulsion, graph, "zbl").virial, graph)[0]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


def test_stress_of_a_molecule_is_zero_and_of_a_batch_each_its_own(
    potential: MultiHeadPotential,
) -> None:
    graphs = [graph_of(a, potential) for a in (bulk("Cu"), Atoms("Cu2", [[0, 0, 0], [0, 0, 2]]))]
    batch = batch_graphs(graphs)
    tensors = stress(predict(potential, batch, "metals").virial, batch)
    alone = stress(predict(potential, graphs[0], "metals").virial, graphs[0])
    torch.testing.assert_close(tensors[0], alone[0], rtol=1e-10, atol=1e-14)
    assert not tensors[1].any()


def test_a_flat_cell_has_no_stress(potential: MultiHeadPotential) -> None:
    """A sheet whose third vector lies in its plane has no volume to divide by."""
    cell = [[2.1, 0.3, 0.7], [0.7, 1.9, 0.1], [2.8, 2.2, 0.8]]
    graph = graph_of(Atoms("Cu", cell=cell, pbc=[True, True, False]), potential)
    assert graph.n_edges
    assert not stress(predict(potential, graph, "metals").virial, graph).any()


def test_predict_works_without_gradients_around_it(potential: MultiHeadPotential) -> None:
    """Zero forces because autograd was off would be a silent lie."""
    graph = graph_of(molecule("H2O"), potential)
    expected = predict(potential, graph, "organic").forces
    curvature = hessian(potential, graph, "organic")
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            assert torch.equal(predict(potential, graph, "organic").forces, expected)
            assert torch.equal(hessian(potential, graph, "organic"), curvature)


def test_predictions_hold_a_graph_only_when_asked(potential: MultiHeadPotential) -> None:
    graph = graph_of(molecule("H2O"), potential)
    for create_graph in (False, True):
        p = predict(potential, graph, "organic", create_graph=create_graph)
        for values in (p.energy, p.atomic_energies, p.forces, p.virial):
            assert values.requires_grad == create_graph


def test_frozen_weights_still_give_forces(potential: MultiHeadPotential) -> None:
    atoms = molecule("H2O")
    expected = forces_of(atoms, potential, "organic")
    potential.requires_grad_(False)
    torch.testing.assert_close(forces_of(atoms, potential, "organic"), expected)


def test_training_on_forces_of_isolated_atoms_is_possible(potential: MultiHeadPotential) -> None:
    """No edges, no gradient: the loss must still go backward, not fail."""
    p = predict(potential, graph_of(Atoms("H"), potential), "organic", create_graph=True)
    (p.energy.sum() + p.forces.square().sum() + p.virial.square().sum()).backward()
    assert not any(w.grad is not None and w.grad.any() for w in potential.parameters())


@pytest.mark.parametrize(
    ("atoms", "head"),
    [
        (molecule("H2O"), "organic"),
        (Atoms("Cu2", [[0, 0, 0], [1.7, 1.6, 1.9]], cell=[3.4, 3.5, 3.6], pbc=True), "metals"),
    ],
    ids=["molecule", "crystal"],
)
def test_hessian_is_symmetric_and_the_slope_of_the_forces(
    potential: MultiHeadPotential, atoms: Atoms, head: str
) -> None:
    n = 3 * len(atoms)
    found = hessian(potential, graph_of(atoms, potential), head).reshape(n, n)
    torch.testing.assert_close(found, found.T, atol=1e-10, rtol=0)
    assert found.abs().max() > 1e-2
    step = 1e-4
    for index in range(n):
        forces = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions.flat[index] += sign * step
            forces.append(forces_of(moved, potential, head).flatten())
        slope = -(forces[0] - forces[1]) / (2 * step)
        torch.testing.assert_close(found[index], slope, atol=1e-5, rtol=1e-5)


def test_shifting_all_atoms_costs_nothing(potential: MultiHeadPotential) -> None:
    """The rows of the Hessian add up to zero: three acoustic modes of no frequency."""
    h = hessian(potential, graph_of(molecule("H2O"), potential), "organic")
    assert h.sum(2).abs().max() < 1e-10


@pytest.mark.parametrize("backend", ["reference", "fused"])
def test_units_summed_with_the_last_layer_are_what_a_head_learned(
    potential: MultiHeadPotential, backend: BackendChoice
) -> None:
    potential.backbone.backend = backend
    water = Atoms("OH2", [[0, 0, 0], [0.8, 0.5, 0], [-0.8, 0.5, 0.1]], cell=[4, 5, 6], pbc=True)
    graph = batch_graphs([graph_of(water, potential), graph_of(molecule("CH4"), potential)])
    units = predict_units(potential, graph, "organic")
    weights = potential.head("organic").last_layer
    whole, kept = predict(potential, graph, "organic"), weights.detach()[0].clone()
    with torch.no_grad():
        weights.zero_()
    rest = predict(potential, graph, "organic")
    for name in ("energy", "forces", "virial"):
        learned = getattr(whole, name) - getattr(rest, name)
        assert learned.abs().max() > 1e-4
        torch.testing.assert_close(
            getattr(units, name) @ kept, learned, rtol=1e-9, atol=1e-11, msg=name
        )
    assert torch.equal(predict_unit_energies(potential, graph, "organic"), units.energy)


def test_units_of_atoms_without_neighbours_are_nothing(potential: MultiHeadPotential) -> None:
    units = predict_units(potential, graph_of(Atoms("H"), potential), "organic")
    width = potential.head("organic").config.width
    assert torch.equal(units.forces, torch.zeros(1, 3, width, dtype=torch.float64))
    assert torch.equal(units.energy, torch.zeros(1, width, dtype=torch.float64))
