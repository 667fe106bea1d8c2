"""Energies, forces and virials without autograd: the numbers of the training path."""

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from gfm_models.backbone import Backbone, BackboneConfig
from gfm_models.derivatives import Prediction, hessian, predict
from gfm_models.graph import AtomicGraph, batch_graphs, graph_from_atoms
from gfm_models.heads import HeadConfig
from gfm_models.potential import MultiHeadPotential, build_potential
from gfm_models.presets import PRESETS

HEAD = "organic"
ARCHITECTURES = {
    **PRESETS,
    "scalars between layers": BackboneConfig(channels=5, l_hidden=0),
    "one layer": BackboneConfig(channels=8, n_interactions=1, l_max=1),
}


def batch_of(structures: list[Atoms], potential: MultiHeadPotential) -> AtomicGraph:
    for seed, atoms in enumerate(structures):
        atoms.rattle(0.1, seed=seed)
    return batch_graphs([graph_from_atoms(a, cutoff=potential.cutoff) for a in structures])


def organic() -> list[Atoms]:
    """A molecule, a single atom, a crystal whose atoms see their own images, and no atoms."""
    crystal = bulk("C", "sc", a=2.2)
    return [molecule("CH3CH2OH"), Atoms("H"), crystal, Atoms()]


def assert_same(found: Prediction, expected: Prediction, tolerance: float) -> None:
    for name in ("energy", "atomic_energies", "forces", "virial"):
        one, other = getattr(found, name), getattr(expected, name).detach()
        assert one.dtype == torch.float64
        assert not one.requires_grad
        scale = max(1.0, expected.forces.abs().max().item())
        torch.testing.assert_close(one, other, atol=tolerance * scale, rtol=1e-15)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 3e-6)], ids=str
)
def test_same_as_in_training(
    architecture: str, dtype: torch.dtype, tolerance: float, head_configs: dict[str, HeadConfig]
) -> None:
    potential = build_potential(ARCHITECTURES[architecture], head_configs, dtype=dtype)
    with torch.no_grad():
        potential.head(HEAD).last_layer.mul_(10)  # as large as after training
    graph = batch_of(organic(), potential)
    expected = predict(potential, graph, HEAD, create_graph=True)
    assert_same(predict(potential, graph, HEAD), expected, tolerance)
    assert expected.forces.abs().max() > 0.1


@pytest.fixture
def without_autograd(
    potential: MultiHeadPotential, monkeypatch: pytest.MonkeyPatch
) -> MultiHeadPotential:
    def refuse(*_: object) -> None:
        raise AssertionError("this was to be computed without autograd")

    monkeypatch.setattr(Backbone, "forward", refuse)
    return potential


def test_layers_are_not_called(without_autograd: MultiHeadPotential) -> None:
    potential = without_autograd
    graph = batch_of(organic(), potential)
    assert predict(potential, graph, HEAD).energy.isfinite().all()
    with pytest.raises(AssertionError, match="without autograd"):
        predict(potential, graph, HEAD, create_graph=True)


def test_graphs_on_another_device_are_refused(without_autograd: MultiHeadPotential) -> None:
    graph = batch_of(organic(), without_autograd).to("meta")
    with pytest.raises(ValueError, match="the graph is on 'meta', the potential on 'cpu'"):
        predict(without_autograd, graph, HEAD)


def test_graphs_in_pieces_are_read_as_others(potential: MultiHeadPotential) -> None:
    graph = batch_of(organic(), potential)
    pieces = {name: strided(value) for name, value in vars(graph).items()}
    assert not any(t.is_contiguous() for t in pieces.values() if t.numel() > 1)
    found = predict(potential, AtomicGraph(**pieces), HEAD)
    assert_same(found, predict(potential, graph, HEAD), 0.0)


def strided(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers, every other place of their memory."""
    return tensor.repeat_interleave(2, dim=0)[::2]


def test_a_hook_is_called(without_autograd: MultiHeadPotential) -> None:
    graph = batch_of(organic(), without_autograd)
    without_autograd.backbone.register_forward_hook(lambda *_: None)
    with pytest.raises(AssertionError, match="without autograd"):
        predict(without_autograd, graph, HEAD)


def test_what_a_head_does_not_know_is_refused(without_autograd: MultiHeadPotential) -> None:
    graph = batch_of([molecule("CH4")], without_autograd)
    with pytest.raises(ValueError, match="head 'metals' does not know C, H; it knows Ni, Cu"):
        predict(without_autograd, graph, "metals")
    with pytest.raises(ValueError, match="no head 'metal'"):
        predict(without_autograd, graph, "metal")


@pytest.mark.parametrize("n_threads", [1, 3])
def test_threads_do_not_change_a_bit(
    potential: MultiHeadPotential, monkeypatch: pytest.MonkeyPatch, n_threads: int
) -> None:
    graph = batch_of([molecule("CH3CH2OH")], potential)
    expected = predict(potential, graph, HEAD)
    monkeypatch.setattr("gfm_models.kernels.library.WORK_OF_A_THREAD", 1)
    monkeypatch.setattr("gfm_models.kernels.structure.EDGES_OF_A_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: n_threads)
    found = predict(potential, graph, HEAD)
    assert torch.equal(found.forces, expected.forces)
    assert torch.equal(found.atomic_energies, expected.atomic_energies)


def test_weights_that_change_are_followed(potential: MultiHeadPotential) -> None:
    """However they are written: averages are copied to `data`, which leaves no trace in torch."""
    graph = batch_of([molecule("H2O")], potential)
    energies = [predict(potential, graph, HEAD).energy.item()]
    for way in ("in place", "data", "state"):
        with torch.no_grad():
            for weight in potential.backbone.parameters():
                if way == "in place":
                    weight.mul_(1.1)
                elif way == "data":
                    weight.data.copy_(1.1 * weight.data)
        if way == "state":
            state = potential.backbone.state_dict()
            potential.backbone.load_state_dict({k: 1.1 * value for k, value in state.items()})
        found = predict(potential, graph, HEAD)
        assert_same(found, predict(potential, graph, HEAD, create_graph=True), 1e-12)
        energies.append(found.energy.item())
    assert len({round(energy, 4) for energy in energies}) == 4


def test_weights_keep_what_they_are_trained_with(potential: MultiHeadPotential) -> None:
    graph = batch_of([molecule("H2O")], potential)
    predict(potential, graph, HEAD)
    assert all(p.requires_grad and p.grad is None for p in potential.parameters())
    predict(potential, graph, HEAD, create_graph=True).forces.square().sum().backward()
    assert all(p.grad is not None for p in potential.backbone.parameters())


def test_hessians_are_slopes_of_the_forces(potential: MultiHeadPotential) -> None:
    atoms, step = molecule("H2O"), 1e-4
    rows = hessian(potential, graph_from_atoms(atoms, cutoff=potential.cutoff), HEAD)[1, 2]
    forces = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[1, 2] += sign * step
        graph = graph_from_atoms(moved, cutoff=potential.cutoff)
        forces.append(predict(potential, graph, HEAD).forces)
    slope = -(forces[0] - forces[1]) / (2 * step)
    torch.testing.assert_close(rows.detach(), slope, atol=1e-5, rtol=1e-5)
