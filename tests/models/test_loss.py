"""The loss: sums and counts, missing labels, and how it adds up over parts of a batch."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from gfm_models.derivatives import predict, stress
from gfm_models.graph import AtomicGraph, batch_graphs, graph_from_atoms
from gfm_models.loss import (
    Labels,
    LossConfig,
    huber,
    label_counts,
    loss_sums,
    loss_sums_by_structure,
    residuals,
    weighted_loss,
)
from gfm_models.potential import MultiHeadPotential

HEAD = "all"
UNIT, DELTA = 0.8, 0.05


@pytest.fixture
def head_configs(head_configs: dict[str, Any]) -> dict[str, Any]:
    """One head that knows the elements of both."""
    organic, metals = head_configs["organic"], head_configs["metals"]
    tables = {
        name: {**getattr(organic, name), **getattr(metals, name)}
        for name in ("reference_energies", "scales")
    }
    return {HEAD: replace(organic, **tables)}


@pytest.fixture
def graphs(potential: MultiHeadPotential) -> list[AtomicGraph]:
    structures: list[Atoms] = [
        molecule("H2O"),
        bulk("Cu"),
        molecule("CH4"),
        bulk("NiO", "rocksalt", a=4.2),
    ]
    return [graph_from_atoms(atoms, cutoff=potential.cutoff) for atoms in structures]


def random_labels(graph: AtomicGraph, *, seed: int = 0) -> Labels:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return Labels(
        energy=random(graph.n_graphs),
        forces=random(graph.n_nodes, 3),
        stress=torch.where(graph.has_cell[:, None, None], random(graph.n_graphs, 3, 3), math.nan),
    )


def join(labels: list[Labels]) -> Labels:
    return Labels(
        energy=torch.cat([x.energy for x in labels]),
        forces=torch.cat([x.forces for x in labels]),
        stress=torch.cat([x.stress for x in labels]),
    )


def sums_of(potential: MultiHeadPotential, graph: AtomicGraph, labels: Labels) -> torch.Tensor:
    prediction = predict(potential, graph, HEAD, create_graph=True)
    return loss_sums(prediction, labels, graph, unit=UNIT, delta=DELTA)


def gradients(loss: torch.Tensor, potential: MultiHeadPotential) -> torch.Tensor:
    parameters = list(potential.parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat(
        [
            (torch.zeros_like(p) if g is None else g).flatten()
            for g, p in zip(found, parameters, strict=True)
        ]
    )


def test_own_predictions_as_labels_have_no_loss(
    potential: MultiHeadPotential, graphs: list[AtomicGraph]
) -> None:
    batch = batch_graphs(graphs)
    p = predict(potential, batch, HEAD)
    known = torch.where(batch.has_cell[:, None, None], stress(p.virial, batch), math.nan)
    labels = Labels(energy=p.energy, forces=p.forces, stress=known)
    assert loss_sums(p, labels, batch, unit=UNIT, delta=DELTA).max() < 1e-20


def test_residuals_are_per_atom(potential: MultiHeadPotential, graphs: list[AtomicGraph]) -> None:
    """The energy of a crystal of two atoms 3 eV off, its stress 0.1 eV/Å³."""
    graph = graphs[3]
    p = predict(potential, graph, HEAD)
    labels = Labels(
        energy=p.energy + 3.0, forces=p.forces - 0.5, stress=stress(p.virial, graph) + 0.1
    )
    energy, forces, virial = residuals(p, labels, graph)
    volume = 4.2**3 / 4
    torch.testing.assert_close(energy, torch.full_like(energy, -3.0 / 2))
    torch.testing.assert_close(forces, torch.full_like(forces, 0.5))
    torch.testing.assert_close(virial, torch.full_like(virial, -0.1 * volume / 2))


def test_sums_add_up_the_huber_losses(
    potential: MultiHeadPotential, graphs: list[AtomicGraph]
) -> None:
    graph = graphs[0]
    p = predict(potential, graph, HEAD)
    labels = Labels(
        energy=p.energy - 3 * UNIT * 2.0,
        forces=p.forces + UNIT * 1.0,
        stress=torch.full((1, 3, 3), math.nan, dtype=torch.float64),
    )
    sums = loss_sums(p, labels, graph, unit=UNIT, delta=DELTA)
    assert sums.tolist() == pytest.approx([2.0 - DELTA / 2, 9 * (1.0 - DELTA / 2), 0.0])


def test_counts_are_those_of_labelled_items(graphs: list[AtomicGraph]) -> None:
    batch = batch_graphs(graphs)
    labels = random_labels(batch)
    labels.energy[1] = math.nan
    labels.forces[:3] = math.nan
    assert label_counts(labels).tolist() == [3.0, batch.n_nodes - 3.0, 2.0]


def test_a_split_batch_has_the_same_sums_counts_and_gradients(
    potential: MultiHeadPotential, graphs: list[AtomicGraph]
) -> None:
    """What makes any number of ranks train alike; the parts are ragged and partly unlabelled."""
    labels = [random_labels(g, seed=i) for i, g in enumerate(graphs)]
    labels[0].forces[:] = math.nan
    labels[2].energy[:] = math.nan
    whole, both = batch_graphs(graphs), join(labels)
    counts = label_counts(both)
    sums = sums_of(potential, whole, both)
    parts = [(batch_graphs(graphs[a:b]), join(labels[a:b])) for a, b in ((0, 1), (1, 4))]
    torch.testing.assert_close(counts, sum(label_counts(part) for _, part in parts))
    part_sums = [sums_of(potential, graph, part) for graph, part in parts]
    torch.testing.assert_close(sums, part_sums[0] + part_sums[1], rtol=1e-12, atol=0)
    config = LossConfig()
    expected = gradients(weighted_loss(sums, counts, config), potential)
    found = sum(gradients(weighted_loss(s, counts, config), potential) for s in part_sums)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["energy", "forces", "stress"])
def test_missing_labels_add_exactly_nothing(
    potential: MultiHeadPotential, graphs: list[AtomicGraph], kind: str
) -> None:
    batch = batch_graphs(graphs)
    labels = random_labels(batch)
    without = replace(labels, **{kind: torch.full_like(getattr(labels, kind), math.nan)})
    index = ["energy", "forces", "stress"].index(kind)
    some, none = sums_of(potential, batch, labels), sums_of(potential, batch, without)
    assert some[index] > 0
    assert none[index] == 0.0
    assert label_counts(without)[index] == 0.0
    others = [i for i in range(3) if i != index]
    assert torch.equal(some[others], none[others])
    assert not gradients(none[index], potential).any()


def test_without_any_label_loss_and_gradient_are_zero(
    potential: MultiHeadPotential, graphs: list[AtomicGraph]
) -> None:
    batch = batch_graphs(graphs)
    nothing = Labels(
        **{
            kind: torch.full_like(getattr(random_labels(batch), kind), math.nan)
            for kind in ("energy", "forces", "stress")
        }
    )
    sums = sums_of(potential, batch, nothing)
    loss = weighted_loss(sums, label_counts(nothing), LossConfig())
    assert loss.item() == 0.0
    assert not gradients(loss, potential).any()


def test_the_loss_of_each_structure_is_that_of_it_alone(
    potential: MultiHeadPotential, graphs: list[AtomicGraph]
) -> None:
    batch = batch_graphs(graphs)
    labels = random_labels(batch)
    found = loss_sums_by_structure(
        predict(potential, batch, HEAD), labels, batch, unit=UNIT, delta=DELTA
    )
    torch.testing.assert_close(found.sum(0), sums_of(potential, batch, labels))
    for place, graph in enumerate(graphs):
        atoms = batch.graph_index == place
        own = Labels(
            energy=labels.energy[place : place + 1],
            forces=labels.forces[atoms],
            stress=labels.stress[place : place + 1],
        )
        torch.testing.assert_close(found[place], sums_of(potential, graph, own))


def test_huber_is_the_formula_and_continuous() -> None:
    x = torch.tensor([0.0, 0.02, -0.02, 0.05, 1.0, -3.0], dtype=torch.float64)
    expected = [0.0, 0.004, 0.004, 0.025, 0.975, 2.975]
    assert huber(x, 0.05).tolist() == pytest.approx(expected, rel=1e-14)
    around = torch.tensor([0.05 - 1e-9, 0.05 + 1e-9], dtype=torch.float64, requires_grad=True)
    values = huber(around, 0.05)
    (slopes,) = torch.autograd.grad(values.sum(), around)
    assert values.diff().item() == pytest.approx(2e-9, rel=1e-4)
    assert slopes.tolist() == pytest.approx([1.0, 1.0], rel=1e-6)


def test_weighted_loss_is_the_formula() -> None:
    """2·3/(1·4) + 5·6/(3·7) + 0.5·9/(9·2)."""
    config = LossConfig(energy_weight=2.0, force_weight=5.0, stress_weight=0.5)
    sums = torch.tensor([3.0, 6.0, 9.0], dtype=torch.float64)
    counts = torch.tensor([4.0, 7.0, 2.0])
    expected = 2 * 3 / 4 + 5 * 6 / 21 + 0.5 * 9 / 18
    assert weighted_loss(sums, counts, config).item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"force_weight": -1.0}, "loss.force_weight must not be negative, got -1.0"),
        ({"energy_weight": -1.0}, "loss.energy_weight must not be negative"),
        ({"stress_weight": -1.0}, "loss.stress_weight must not be negative"),
        ({"delta": 0.0}, "loss.delta must be positive, got 0.0"),
    ],
)
def test_impossible_weights_are_refused(option: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LossConfig(**option)


def test_a_stress_without_a_volume_pulls_at_nothing(potential: MultiHeadPotential) -> None:
    graph = graph_from_atoms(molecule("CH4"), cutoff=potential.cutoff)
    labels = Labels(
        energy=torch.full((1,), math.nan, dtype=torch.float64),
        forces=torch.full((graph.n_nodes, 3), math.nan, dtype=torch.float64),
        stress=torch.zeros(1, 3, 3, dtype=torch.float64),
    )
    assert not sums_of(potential, graph, labels).any()
