import numpy as np
import pytest
import torch
from gfm_models.backbone import BackboneConfig
from gfm_models.derivatives import predict, stress
from gfm_models.heads import HeadConfig
from gfm_models.potential import MultiHeadPotential, build_potential
from gfm_pretrain.data.batch import build_batch
from gfm_pretrain.data.structure import LabelledStructure
from gfm_pretrain.data.structure_set import StructureSet, in_memory
from gfm_pretrain.evaluate import baseline_sums, error_sums, metrics

CPU = torch.device("cpu")
HEAD = HeadConfig(
    level_of_theory="PBE",
    reference_energies={"H": -13.0, "O": -2040.0},
    scales={"H": 1.0, "O": 2.0},
)
ALL_METRICS = {
    *("energy_mae_per_atom", "energy_rmse_per_atom", "forces_mae", "forces_rmse"),
    *("stress_mae", "stress_rmse"),
}


def random_crystal(seed: int, *, n_atoms: int, without: str = "") -> LabelledStructure:
    chance = np.random.default_rng(seed)
    stress_label = chance.normal(size=(3, 3))
    labels = {
        "energy": float(chance.normal()),
        "forces": chance.normal(size=(n_atoms, 3)),
        "stress": stress_label + stress_label.T,
    }
    labels.pop(without, None)
    return LabelledStructure(
        atomic_numbers=chance.choice([1, 8], n_atoms),
        positions=chance.uniform(0, 4, (n_atoms, 3)),
        cell=4 * np.eye(3) + chance.normal(scale=0.1, size=(3, 3)),
        pbc=np.ones(3, dtype=bool),
        identifier=f"crystal {seed}",
        **labels,
    )


STRUCTURES = [
    random_crystal(1, n_atoms=2),
    random_crystal(2, n_atoms=4, without="stress"),
    random_crystal(3, n_atoms=3, without="forces"),
    random_crystal(4, n_atoms=1, without="energy"),
]
ALL = np.arange(len(STRUCTURES))


def set_of(*structures: LabelledStructure) -> StructureSet:
    return in_memory(structures, cutoff=3.0)


@pytest.fixture(scope="module")
def potential() -> MultiHeadPotential:
    return build_potential(BackboneConfig(channels=2, cutoff=3.0), {"a": HEAD}, dtype=torch.float64)


def sums_of(potential, places=ALL, **options) -> torch.Tensor:
    options = {"micro_batch_edges": 10**6, "device": CPU} | options
    return error_sums(potential, "a", set_of(*STRUCTURES), places=places, **options)


def errors_of(potential, places=ALL, **options) -> dict[str, float]:
    return metrics(sums_of(potential, places, **options))


def test_errors_are_means_over_what_is_labelled(potential):
    errors = {"energy": [], "forces": [], "stress": []}
    for s in STRUCTURES:
        graph, _ = build_batch(set_of(s).read(np.array([0])), cutoff=3.0, device=CPU)
        found = predict(potential, graph, "a")
        if s.energy is not None:
            errors["energy"].append((found.energy.item() - s.energy) / s.n_atoms)
        if s.forces is not None:
            errors["forces"].extend((found.forces.numpy() - s.forces).ravel())
        if s.stress is not None:
            errors["stress"].extend((stress(found.virial, graph)[0].numpy() - s.stress).ravel())
    assert {kind: len(values) for kind, values in errors.items()} == {
        "energy": 3,
        "forces": 3 * (2 + 4 + 1),
        "stress": 9 * 3,
    }
    expected = {}
    for kind, values in errors.items():
        suffix = "_per_atom" if kind == "energy" else ""
        expected[f"{kind}_mae{suffix}"] = np.abs(values).mean()
        expected[f"{kind}_rmse{suffix}"] = np.sqrt(np.square(values).mean())
    assert errors_of(potential) == pytest.approx(expected, rel=1e-12)
    assert set(expected) == ALL_METRICS


def test_errors_do_not_depend_on_how_many_structures_are_taken_at_once(potential):
    whole = errors_of(potential)
    assert errors_of(potential, micro_batch_edges=1) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 6])
def test_the_sums_of_all_ranks_are_those_of_one(potential, n_ranks):
    parts = [sums_of(potential, ALL[rank::n_ranks]) for rank in range(n_ranks)]
    torch.testing.assert_close(sum(parts), sums_of(potential), rtol=1e-12, atol=0)


def test_no_structures_have_no_errors(potential):
    assert errors_of(potential, ALL[:0]) == {}


def test_a_kind_without_labels_has_no_error(potential):
    assert set(errors_of(potential, ALL[1:2])) == ALL_METRICS - {"stress_mae", "stress_rmse"}


def test_the_baseline_predicts_reference_energies_and_zeros():
    (s,) = STRUCTURES[:1]
    assert s.energy is not None
    assert s.forces is not None
    assert s.stress is not None
    reference = sum({1: -13.0, 8: -2040.0}[z] for z in s.atomic_numbers.tolist())
    found = metrics(baseline_sums(set_of(s), HEAD))
    assert found["energy_mae_per_atom"] == pytest.approx(abs(s.energy - reference) / 2)
    assert found["forces_mae"] == pytest.approx(np.abs(s.forces).mean())
    assert found["stress_rmse"] == pytest.approx(np.sqrt((s.stress**2).mean()))
    assert set(metrics(baseline_sums(set_of(*STRUCTURES), HEAD))) == ALL_METRICS


def test_the_baseline_counts_what_is_labelled():
    sums = baseline_sums(set_of(*STRUCTURES), HEAD)
    assert sums[:, 2].tolist() == [3, 3 * (2 + 4 + 1), 9 * 3]
