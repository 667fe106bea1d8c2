"""N ranks are one rank: gradients, weights, averages, moments, losses, norms and errors."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gfm_models.graph import build_graph
from gfm_models.potential import MultiHeadPotential
from gfm_pretrain.config import RunConfig
from gfm_pretrain.configuration import read_configuration
from gfm_pretrain.data.deal import first_deals
from gfm_pretrain.data.sampler import dealt_places
from gfm_pretrain.data.structure import LabelledStructure
from gfm_pretrain.data.structure_set import StructureSet
from gfm_pretrain.guard import GuardOptions
from gfm_pretrain.mixture_options import MixtureOptions
from gfm_pretrain.process import World
from gfm_pretrain.setup import Setup, set_up
from gfm_pretrain.trainer import Trainer, TrainingError
from launch import launch
from programs.engine_program import PLACEMENTS, Arrays, examine, put_together, resumed, state
from tiny_run import LEVELS, write_run
from torch import Tensor

PROGRAM = Path(__file__).parent / "programs" / "engine_program.py"
RANKS = (2, 3, 5)
TO_ROUNDING = 1e-13
BY_ANOTHER_WAY = 1e-12
"""For derivatives by positions and strain, one structure at a time: rounding of other numbers."""
AFTER_STEPS = 1e-10

ALONE = World(
    rank=0, size=1, local_rank=0, local_size=1, launcher="single", device=torch.device("cpu")
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Told:
    """What the program found with one number of ranks and one placement."""

    arrays: Arrays
    facts: dict[str, Any]


@pytest.fixture(scope="module")
def config_file(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def config(config_file) -> RunConfig:
    return read_configuration(RunConfig, config_file)


@pytest.fixture(scope="module")
def one(config, tmp_path_factory) -> Told:
    arrays, facts = examine(config, ALONE, tmp_path_factory.mktemp("one"))
    return Told(arrays=arrays, facts=json.loads(json.dumps(facts)))


@pytest.fixture(scope="module")
def told(config_file, one, tmp_path_factory) -> Callable[[int, str], Told]:
    """Each number of ranks is launched once, for both placements."""
    results: dict[int, tuple[Path, dict[str, Any]]] = {}

    def of_ranks(n_ranks: int, placement: str) -> Told:
        if n_ranks not in results:
            folder = tmp_path_factory.mktemp(f"ranks-{n_ranks}")
            snapshot = one.facts["snapshot"]
            result = launch(
                PROGRAM,
                str(config_file),
                str(folder),
                snapshot,
                n_ranks=n_ranks,
                timeout_seconds=300,
            )
            assert result.returncode == 0, result.stderr
            results[n_ranks] = (folder, json.loads(result.stdout))
        folder, facts = results[n_ranks]
        with np.load(folder / f"{placement}.npz") as arrays:
            return Told(arrays=dict(arrays), facts=facts[placement])

    return of_ranks


@pytest.fixture(params=[(n, p) for n in RANKS for p in PLACEMENTS], ids=lambda p: f"{p[0]}-{p[1]}")
def several(request, told) -> Told:
    return told(*request.param)


def of_kind(arrays: Arrays, kind: str, what: str = "") -> Arrays:
    """Arrays collected under `kind`, with its name removed; `what` such as `weight`."""
    found = {
        name.removeprefix(f"{kind}/"): a for name, a in arrays.items() if kind_of(name) == kind
    }
    return {name: array for name, array in found.items() if name.endswith(what)}


def kind_of(name: str) -> str:
    return name.split("/")[0]


def difference(found: Arrays, expected: Arrays) -> float:
    """Largest difference, relative to the largest number of the whole."""
    assert found.keys() == expected.keys()
    assert found
    largest = max(np.abs(array).max() for array in expected.values())
    return max(np.abs(found[name] - expected[name]).max() for name in expected) / largest


def difference_by_part(found: Arrays, expected: Arrays) -> float:
    """The worst of the backbone and each head, each relative to its own largest number."""
    parts = {".".join(name.split(".")[: 1 + name.startswith("heads.")]) for name in expected}
    assert parts == {"backbone", *(f"heads.{name}" for name in LEVELS)}

    def of_part(arrays: Arrays, part: str) -> Arrays:
        return {name: array for name, array in arrays.items() if name.startswith(f"{part}.")}

    return max(difference(of_part(found, part), of_part(expected, part)) for part in parts)


@pytest.mark.mpi
def test_gradients_are_those_of_one_process(several, one):
    found, expected = (of_kind(t.arrays, "correct", "gradient") for t in (several, one))
    assert difference(found, expected) < TO_ROUNDING
    assert difference_by_part(found, expected) < TO_ROUNDING
    assert several.facts["first_norm"] == pytest.approx(one.facts["first_norm"], rel=TO_ROUNDING)


@pytest.mark.mpi
def test_averaging_instead_of_summing_would_be_noticed(several, one):
    correct, averaged = (of_kind(several.arrays, kind, "gradient") for kind in KINDS_OF_GRADIENT)
    assert difference(averaged, correct) > 1e-3
    alone = (of_kind(one.arrays, kind, "gradient") for kind in KINDS_OF_GRADIENT)
    assert difference(*alone) == 0.0


KINDS_OF_GRADIENT = ("correct", "averaged")


@pytest.mark.mpi
@pytest.mark.parametrize("what", ["weight", "average", "exp_avg", "exp_avg_sq"])
def test_trained_weights_are_those_of_one_process(several, one, config, what):
    assert min(one.facts["norms"]) > config.training.clip_norm  # clipping is active in every step
    found, expected = (of_kind(t.arrays, "trained", f"/{what}") for t in (several, one))
    assert difference(found, expected) < AFTER_STEPS
    moved = difference(found, of_kind(one.arrays, "correct", f"/{what}")) if what in MOVED else 1.0
    assert moved > 1e-3


MOVED = ("weight", "average")


@pytest.mark.mpi
def test_losses_norms_and_errors_are_those_of_one_process(several, one):
    for name in ("first_losses", "losses", "norms", "before", "after"):
        assert several.facts[name] == approximately(one.facts[name], rel=AFTER_STEPS), name
    assert set(one.facts["after"]["monbtaw"]) == {
        *("energy_mae_per_atom", "energy_rmse_per_atom", "forces_mae", "forces_rmse"),
        *("stress_mae", "stress_rmse"),
    }
    assert set(one.facts["after"]["qm22_formic_dimer"]) == {
        *("energy_mae_per_atom", "energy_rmse_per_atom")
    }


def approximately(expected: Any, *, rel: float) -> Any:
    """pytest.approx for nested lists and dictionaries."""
    if isinstance(expected, dict):
        return {key: approximately(value, rel=rel) for key, value in expected.items()}
    if isinstance(expected, list):
        return [approximately(value, rel=rel) for value in expected]
    return pytest.approx(expected, rel=rel)


@pytest.mark.mpi
def test_replicas_are_equal_bit_by_bit(several):
    equal = several.facts["replicas_equal"]
    assert set(equal) >= {"correct", "averaged", "trained"}
    assert all(equal.values())


@pytest.mark.mpi
def test_a_rank_holds_the_heads_it_owns_and_no_others(several):
    for rank, heads in enumerate(several.facts["heads"]):
        owned = [name for name, ranks in several.facts["owners"].items() if rank in ranks]
        assert heads == owned
        assert sorted(owned) == several.facts["data"][rank]
    of_rank_0 = several.facts["parameters"]
    assert {n.split(".")[1] for n in of_rank_0 if n.startswith("heads.")} == set(
        several.facts["heads"][0]
    )
    assert len(several.facts["heads"][0]) < len(LEVELS)


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", RANKS)
def test_resuming_is_as_if_nothing_had_happened(n_ranks, told):
    arrays = told(n_ranks, "wrap-around").arrays
    straight, resumed = (of_kind(arrays, kind) for kind in ("trained", "resumed"))
    assert straight.keys() == resumed.keys()
    assert all(straight[name].tobytes() == resumed[name].tobytes() for name in straight)


@pytest.mark.mpi
@pytest.mark.parametrize("what", ["weight", "average"])
@pytest.mark.parametrize("n_ranks", RANKS)
def test_resuming_on_other_ranks_changes_rounding_only(n_ranks, what, told, one):
    expected = of_kind(one.arrays, "trained", f"/{what}")
    found = of_kind(told(n_ranks, "wrap-around").arrays, "resumed_from_other", f"/{what}")
    assert difference(found, expected) < AFTER_STEPS


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [3, 5])
def test_one_rank_continues_what_several_began(n_ranks, told, one, config):
    snapshot = Path(told(n_ranks, "wrap-around").facts["snapshot"])
    arrays, _ = put_together(state(resumed(config, ALONE, snapshot)), ALONE)
    for what in MOVED:
        expected = of_kind(one.arrays, "trained", f"/{what}")
        found = {name: array for name, array in arrays.items() if name.endswith(f"/{what}")}
        assert difference(found, expected) < AFTER_STEPS


def test_resuming_alone_is_as_if_nothing_had_happened(one):
    straight, resumed = (of_kind(one.arrays, kind) for kind in ("trained", "resumed"))
    assert straight.keys() == resumed.keys()
    assert all(straight[name].tobytes() == resumed[name].tobytes() for name in straight)


def test_the_gradient_is_that_of_the_formula(config, one):
    setup = set_up(config, ALONE)
    loss = sum(
        (options.weight * head_loss(config, setup, name) for name, options in config.heads.items()),
        torch.zeros((), dtype=torch.float64),
    )
    loss.backward()
    expected = {
        f"{name}/gradient": (
            np.zeros(p.shape) if p.grad is None else p.grad.numpy(force=True).copy()
        )
        for name, p in setup.potential.named_parameters()
    }
    found = of_kind(one.arrays, "correct", "gradient")
    assert difference(found, expected) < BY_ANOTHER_WAY
    assert difference_by_part(found, expected) < BY_ANOTHER_WAY


def test_a_head_without_structures_in_a_step_takes_no_part(config):
    """By size, five structures a step: some of the five heads have none of them in the second."""
    config = replace(
        config,
        mixture=MixtureOptions(by="size", batch_size=5),
        heads={name: replace(head, batch_size=None) for name, head in config.heads.items()},
    )
    trainer = Trainer(config, set_up(config, ALONE), ALONE)
    work = trainer.feed.work(1)
    present = [name for name, size in work.sizes.items() if size.structures]
    assert 1 < len(present) < 5
    losses = trainer.compute_gradients(work).losses
    found = {name: a for name, a in state(trainer).items() if name.endswith("gradient")}
    expected = {name: head_loss(config, trainer.setup, name, step=1) for name in present}
    assert losses == pytest.approx(
        dict.fromkeys(config.heads, 0.0) | {name: loss.item() for name, loss in expected.items()}
    )
    for name in config.heads:
        of_head = [a for part, a in found.items() if part.startswith(f"heads.{name}.")]
        assert any(a.any() for a in of_head) == (name in present)
    weighted = (config.heads[name].weight * loss for name, loss in expected.items())
    check_backbone(trainer, found, sum(weighted, torch.zeros(())))


def check_backbone(trainer: Trainer, found: Arrays, loss: Tensor) -> None:
    """The gradient of the backbone is that of `loss`."""
    named = dict(trainer.potential.backbone.named_parameters(prefix="backbone"))
    gradients = torch.autograd.grad(loss, list(named.values()), materialize_grads=True)
    expected = {
        f"{name}/gradient": gradient.numpy()
        for name, gradient in zip(named, gradients, strict=True)
    }
    assert difference({name: found[name] for name in expected}, expected) < BY_ANOTHER_WAY


def test_the_loss_is_that_of_the_formula(config, one):
    setup = set_up(config, ALONE)
    expected = {name: head_loss(config, setup, name).item() for name in config.heads}
    assert one.facts["first_losses"] == pytest.approx(expected, rel=BY_ANOTHER_WAY)


def head_loss(config: RunConfig, setup: Setup, name: str, *, step: int = 0) -> Tensor:
    """Σ_i ℓ_E(i) / D_E + λ_F Σ_a ℓ_F(a) / (3 D_F) + λ_S Σ_s ℓ_S(s) / (9 D_S), one by one.

    D counts what is labelled in the batch; ℓ is the Huber loss of the residual over the head's
    unit: energy per atom, force component, stress component times volume per atom.
    """
    data = setup.data[name]["train"]
    numbers = first_deals(setup.batch_sizes)[name].numbers(step)
    places = dealt_places(numbers, seed=config.seed, key=name, n_structures=len(data))
    batch = list(data.structures(places))
    n_energies = sum(s.energy is not None for s in batch)
    n_atoms = sum(s.n_atoms for s in batch if s.forces is not None)
    n_stresses = sum(s.stress is not None for s in batch)
    options, unit = config.loss, setup.summaries[name].unit
    loss = torch.zeros((), dtype=torch.float64)
    for s in batch:
        energy, forces, virial = differentiate(setup.potential, s, name)
        if s.energy is not None:
            r = (energy - s.energy) / s.n_atoms / unit
            loss = loss + options.energy_weight * huber(r, options.delta) / n_energies
        if s.forces is not None:
            r = (forces - torch.from_numpy(s.forces)) / unit
            loss = loss + options.force_weight * huber(r, options.delta) / (3 * n_atoms)
        if s.stress is not None:
            volume = abs(float(np.linalg.det(s.cell)))
            r = (virial - volume * torch.from_numpy(s.stress)) / s.n_atoms / unit
            loss = loss + options.stress_weight * huber(r, options.delta) / (9 * n_stresses)
    return loss


def differentiate(
    potential: MultiHeadPotential, s: LabelledStructure, head: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Energy, -dE/dr and dE/dε, by straining positions and cell."""
    graph = build_graph(s.atomic_numbers, s.positions, cell=s.cell, pbc=s.pbc, cutoff=3.2)
    positions = torch.from_numpy(s.positions).requires_grad_()
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    deform = torch.eye(3, dtype=torch.float64) + (strain + strain.T) / 2
    moved, cell = positions @ deform, torch.from_numpy(s.cell) @ deform
    sender, receiver = graph.edge_index
    vectors = moved[receiver] - moved[sender] + graph.shifts.double() @ cell
    energy = potential(graph, vectors, head).sum()
    by_position, by_strain = torch.autograd.grad(energy, (positions, strain), create_graph=True)
    return energy, -by_position, by_strain


def huber(residual: Tensor, delta: float) -> Tensor:
    """torch's Huber loss is δ times this one's."""
    zeros = torch.zeros_like(residual)
    return torch.nn.functional.huber_loss(residual, zeros, delta=delta, reduction="sum") / delta


def test_splitting_batches_changes_nothing(config, one):
    whole = replace(config.training, micro_batch_edges=10**9)
    trainer = Trainer(config := replace(config, training=whole), set_up(config, ALONE), ALONE)
    trainer.compute_gradients(trainer.feed.work(0))
    found = {name: a for name, a in state(trainer).items() if name.endswith("gradient")}
    assert difference(found, of_kind(one.arrays, "correct", "gradient")) < TO_ROUNDING


def test_a_frozen_backbone_stays_as_it_is(config):
    frozen = replace(config.training, freeze_backbone=True)
    trainer = Trainer(config := replace(config, training=frozen), set_up(config, ALONE), ALONE)
    before = {name: p.detach().clone() for name, p in trainer.potential.named_parameters()}
    trainer.train_step()
    for name, parameter in trainer.potential.named_parameters():
        assert torch.equal(parameter, before[name]) == name.startswith("backbone.")


def spoil(trainer: Trainer, head: str, place: int) -> str:
    """Give one structure of a head an energy far from that of the others; its identifier."""
    shard = trainer.setup.data[head]["train"].shards[0]
    energy = shard.energy.copy()
    energy[place] += 1e6
    spoilt = replace(shard, energy=energy)
    data = {**trainer.setup.data[head], "train": StructureSet(shards=(spoilt,), radii=(3.2,))}
    trainer.feed.data = {**trainer.setup.data, head: data}
    return data["train"].identifier(place)


N_USUAL = 8
"""Steps before anything can be a spike."""


@pytest.fixture
def watchful(config) -> RunConfig:
    training = replace(config.training, learning_rate=1e-3, steps=100)
    return replace(config, guard=GuardOptions(window=N_USUAL), training=training)


def test_a_spike_changes_nothing_and_names_its_structure(watchful):
    trainer = Trainer(watchful, set_up(watchful, ALONE), ALONE)
    assert not any(trainer.train_step().troubles for _ in range(N_USUAL))
    of_step = trainer.feed.work(N_USUAL).passes
    place = int(next(taken for taken in of_step if taken.head == "rmd17").places[-1])
    identifier = spoil(trainer, "rmd17", place)
    before = {name: a for name, a in state(trainer).items() if not name.endswith("gradient")}
    result = trainer.train_step()
    assert [(t.head, t.what) for t in result.troubles] == [("rmd17", "spike")]
    worst, *others = result.culprits
    assert (worst.head, worst.identifier, worst.rank) == ("rmd17", identifier, 0)
    assert {culprit.head for culprit in others} == {"rmd17"}
    assert worst.loss == pytest.approx(result.losses["rmd17"], rel=1e-3)
    after = {name: a for name, a in state(trainer).items() if not name.endswith("gradient")}
    assert all(after[name].tobytes() == before[name].tobytes() for name in before)
    assert trainer.step == result.step == N_USUAL + 1
    trainer.feed.data = trainer.setup.data
    assert trainer.train_step().troubles == ()
    assert any(state(trainer)[name].tobytes() != before[name].tobytes() for name in before)


def test_a_run_with_skipped_steps_is_continued_as_if_nothing_had_happened(watchful):
    first, second = (Trainer(watchful, set_up(watchful, ALONE), ALONE) for _ in range(2))
    for _ in range(N_USUAL):
        first.train_step()
    spoil(first, "rmd17", 0)
    results = [first.train_step() for _ in range(4)]
    assert 0 < sum(bool(result.troubles) for result in results) < 4
    saved = {
        part: {name: tensor.detach().clone() for name, tensor in tensors.items()}
        for part, tensors in first.weights.state().items()
    }
    facts = json.loads(json.dumps({**first.facts(), "step": first.step}))
    spoil(second, "rmd17", 0)
    second.restore(saved, facts)
    for trainer in (first, second):
        for _ in range(4):
            trainer.train_step()
    assert first.guard.facts() == second.guard.facts()
    found, expected = state(second), state(first)
    assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)


def test_a_head_that_is_not_finite_does_not_move_the_others(config):
    trainer = Trainer(config, set_up(config, ALONE), ALONE)
    with torch.no_grad():
        next(trainer.potential.head("rmd17").parameters()).fill_(float("nan"))
    before = {name: p.detach().clone() for name, p in trainer.potential.named_parameters()}
    result = trainer.train_step()
    assert [(t.head, t.what) for t in result.troubles] == [("rmd17", "loss")]
    assert {culprit.loss for culprit in result.culprits} == {None}
    for name, parameter in trainer.potential.named_parameters():
        assert parameter.equal(before[name]) or "rmd17" in name


def test_an_error_that_is_not_finite_names_its_head(config):
    trainer = Trainer(config, set_up(config, ALONE), ALONE)
    trainer.weights.average.shadow_params[-1].fill_(float("nan"))
    with pytest.raises(TrainingError, match="valid set of qm22_formic_dimer is not finite at"):
        trainer.errors("valid")


def test_errors_are_those_of_the_averaged_weights(config):
    trainer = Trainer(config, set_up(config, ALONE), ALONE)
    before = trainer.errors("valid")
    with torch.no_grad():
        for parameter in trainer.potential.parameters():
            parameter.zero_()
    assert trainer.errors("valid") == before
    assert all(not parameter.any() for parameter in trainer.potential.parameters())
