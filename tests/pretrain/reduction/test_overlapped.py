"""On one rank; that many ranks give the same is shown in test_trainer.py."""

import pytest
import torch
from gfm_models.backbone import BackboneConfig
from gfm_models.heads import HeadConfig
from gfm_models.potential import MultiHeadPotential, build_potential
from gfm_pretrain.process import Group, World
from gfm_pretrain.reduction.buckets import fill_buckets
from gfm_pretrain.reduction.overlapped import OverlappedReduction

WORLD = World(
    rank=0, size=1, local_rank=0, local_size=1, launcher="single", device=torch.device("cpu")
)
HEAD = HeadConfig(level_of_theory="PBE", reference_energies={"H": 0.0}, scales={"H": 1.0}, width=2)
ALONE = Group(ranks=(0,), handle=None)
GROUPS = dict.fromkeys(("a", "b"), ALONE)


@pytest.fixture
def potential() -> MultiHeadPotential:
    return build_potential(BackboneConfig(channels=2), {"a": HEAD, "b": HEAD})


def reduction_of(potential: MultiHeadPotential, groups=GROUPS) -> OverlappedReduction:
    return OverlappedReduction(potential, groups, WORLD, bytes_per_bucket=200)


def loss_of(potential: MultiHeadPotential, head: str, factor: float = 1.0) -> torch.Tensor:
    """Depends on every weight of the backbone and of one head, each in another way."""
    weights = [*potential.backbone.parameters(), *potential.head(head).parameters()]
    terms = [(n + 1) * p.sum() for n, p in enumerate(weights) if p.requires_grad]
    return factor * torch.stack(terms).sum()


def gradients(potential: MultiHeadPotential) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in potential.named_parameters() if p.grad is not None}


def test_gradients_of_several_passes_add_up(potential):
    expected = loss_of(potential, "a", 3.0) + loss_of(potential, "b", 2.0)
    expected.backward()
    wanted = gradients(potential)
    reduction = reduction_of(potential)
    for _ in range(2):  # a second step begins from zero
        reduction.begin(["a", "b"])
        reduction.backward(loss_of(potential, "a", 1.0), "a", last_of_head=False, last=False)
        reduction.backward(loss_of(potential, "a", 2.0), "a", last_of_head=True, last=False)
        reduction.backward(loss_of(potential, "b", 2.0), "b", last_of_head=True, last=True)
        reduction.finish()
    found = gradients(potential)
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[name], wanted[name], rtol=1e-6) for name in wanted)


def test_a_weight_that_was_not_used_has_gradient_zero(potential):
    reduction = reduction_of(potential)
    reduction.begin(["a"])
    reduction.backward(loss_of(potential, "a"), "a", last_of_head=True, last=True)
    reduction.finish()
    for parameter in potential.head("b").parameters():
        assert parameter.grad is not None
        assert parameter.grad.shape == parameter.shape
        assert not parameter.grad.any()
    assert all(p.grad is not None and p.grad.all() for p in potential.head("a").parameters())


def test_frozen_weights_have_no_gradient(potential):
    potential.backbone.requires_grad_(False)
    reduction = reduction_of(potential)
    reduction.begin(["a"])
    reduction.backward(loss_of(potential, "a"), "a", last_of_head=True, last=True)
    reduction.finish()
    assert all(parameter.grad is None for parameter in potential.backbone.parameters())
    assert reduction.squared_norms()["backbone"] == 0


def test_the_norms_are_those_of_the_parts(potential):
    reduction = reduction_of(potential)
    reduction.begin(["a"])
    reduction.backward(loss_of(potential, "a"), "a", last_of_head=True, last=True)
    reduction.finish()
    parts = {"backbone": potential.backbone, "a": potential.head("a"), "b": potential.head("b")}
    flat = {
        part: torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
        for part, module in parts.items()
    }
    found = reduction.squared_norms()
    assert found.keys() == parts.keys()
    for part, gradient in flat.items():
        assert found[part].item() == pytest.approx(gradient.double().square().sum().item())


def test_a_head_counts_on_its_first_rank_only(potential):
    elsewhere = {**GROUPS, "b": Group(ranks=(1, 2), handle=None)}
    del potential.heads["b"]
    reduction = reduction_of(potential, elsewhere)
    reduction.begin([])
    reduction.finish()
    assert reduction.squared_norms().keys() == {"backbone", "a"}


def test_a_gradient_that_is_not_finite_is_seen_in_the_norm_of_its_part(potential):
    reduction = reduction_of(potential)
    reduction.begin(["b"])
    loss = torch.inf * next(potential.head("b").parameters()).sum()
    reduction.backward(loss, "b", last_of_head=True, last=True)
    reduction.finish()
    norms = reduction.squared_norms()
    assert not norms["b"].isfinite()
    assert norms["a"] == norms["backbone"] == 0


@pytest.mark.parametrize("limit", [1, 100, 400, 10**9])
def test_buckets_hold_every_weight_once_and_no_more_bytes_than_asked_for(potential, limit):
    buckets = fill_buckets(potential.parameters(), ALONE, bytes_per_bucket=limit)
    held = [id(p) for bucket in buckets for p in bucket.parameters]
    assert held == [id(p) for p in reversed(list(potential.parameters()))]
    for bucket in buckets:
        assert len(bucket.parameters) == 1 or bucket.flat.numel() * 4 <= limit
    assert (len(buckets) == 1) == (limit == 10**9)


def test_weights_of_one_bucket_have_one_precision(potential):
    mixed = [*potential.parameters(), torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))]
    buckets = fill_buckets(mixed, ALONE, bytes_per_bucket=10**9)
    assert [bucket.flat.dtype for bucket in buckets] == [torch.float64, torch.float32]


@pytest.mark.parametrize(("n_ranks", "expected"), [(1, 0), (2, 80), (4, 120), (5, 128)])
def test_the_ring_sends_all_but_one_share_twice(n_ranks, expected):
    weights = [torch.nn.Parameter(torch.zeros(20))]
    group = Group(ranks=tuple(range(n_ranks)), handle=None)
    (bucket,) = fill_buckets(weights, group, bytes_per_bucket=1000)
    assert bucket.bytes_of_ring == expected
