"""On one rank; that many ranks give the same is shown in test_trainer.py."""

import pytest
import torch
from gfm_models.backbone import BackboneConfig
from gfm_models.heads import HeadConfig
from gfm_models.potential import MultiHeadPotential, build_potential
from gfm_pretrain.process import Group, World
from gfm_pretrain.reduce import gradient_norm, reduce_gradients, scale_gradients

WORLD = World(
    rank=0, size=1, local_rank=0, local_size=1, launcher="single", device=torch.device("cpu")
)
HEAD = HeadConfig(level_of_theory="PBE", reference_energies={"H": 0.0}, scales={"H": 1.0}, width=2)
GROUPS = {name: Group(ranks=(0,), handle=None) for name in ("a", "b")}


@pytest.fixture
def potential() -> MultiHeadPotential:
    built = build_potential(BackboneConfig(channels=2), {"a": HEAD, "b": HEAD})
    for number, parameter in enumerate(built.parameters()):
        parameter.grad = torch.full_like(parameter, number / 10)
    return built


def gradients(potential: MultiHeadPotential) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in potential.named_parameters() if p.grad is not None}


def test_alone_gradients_stay_as_they_are(potential):
    before = gradients(potential)
    reduce_gradients(potential, GROUPS, WORLD)
    after = gradients(potential)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_weight_that_was_not_used_has_gradient_zero(potential):
    potential.head("b").zero_grad(set_to_none=True)
    reduce_gradients(potential, GROUPS, WORLD)
    for parameter in potential.head("b").parameters():
        assert parameter.grad is not None
        assert parameter.grad.shape == parameter.shape
        assert not parameter.grad.any()


def test_frozen_weights_have_no_gradient(potential):
    potential.backbone.requires_grad_(False)
    potential.backbone.zero_grad(set_to_none=True)
    reduce_gradients(potential, GROUPS, WORLD)
    assert all(parameter.grad is None for parameter in potential.backbone.parameters())
    assert gradient_norm(potential, GROUPS, WORLD) == pytest.approx(
        torch.cat([g.flatten() for g in gradients(potential).values()]).double().norm().item()
    )


def test_the_norm_is_that_of_all_gradients_together(potential):
    expected = torch.cat([g.flatten() for g in gradients(potential).values()]).double().norm()
    assert gradient_norm(potential, GROUPS, WORLD) == pytest.approx(expected.item(), rel=1e-12)


def test_a_head_counts_on_its_first_rank_only(potential):
    elsewhere = {**GROUPS, "b": Group(ranks=(1, 2), handle=None)}
    potential.head("b").zero_grad(set_to_none=True)
    expected = gradient_norm(potential, GROUPS, WORLD)
    for parameter in potential.head("b").parameters():
        parameter.grad = torch.ones_like(parameter)
    assert gradient_norm(potential, elsewhere, WORLD) == expected


def test_a_gradient_that_is_not_finite_is_seen_in_the_norm(potential):
    next(potential.backbone.parameters()).grad = None
    last = list(potential.backbone.parameters())[-1]
    last.grad = torch.full_like(last, torch.inf)
    assert gradient_norm(potential, GROUPS, WORLD) == torch.inf


def test_scaling_is_by_one_factor(potential):
    before = gradients(potential)
    scale_gradients(potential, 0.5)
    after = gradients(potential)
    assert all(torch.equal(after[name], 0.5 * before[name]) for name in before)
