"""Which way of summing a configuration gets; that all give the same: test_exactness.py."""

from dataclasses import replace

import pytest
import torch
from gfm_models.backbone import BackboneConfig
from gfm_models.heads import HeadConfig
from gfm_models.potential import MultiHeadPotential, build_potential
from gfm_pretrain.process import World
from gfm_pretrain.reduction.build import build_reduction
from gfm_pretrain.reduction.overlapped import OverlappedReduction
from gfm_pretrain.training_options import TrainingOptions

OPTIONS = TrainingOptions(steps=1)
ALONE = World(
    rank=0, size=1, local_rank=0, local_size=1, launcher="single", device=torch.device("cpu")
)
HEAD = HeadConfig(level_of_theory="PBE", reference_energies={"H": 0.0}, scales={"H": 1.0}, width=2)


@pytest.fixture
def potential() -> MultiHeadPotential:
    return build_potential(BackboneConfig(channels=2), {"a": HEAD})


@pytest.mark.parametrize(
    "changes",
    [{"reduction": "sharded"}, {"reduction": "ddp", "placement": "everywhere"}],
    ids=lambda changes: changes["reduction"],
)
def test_one_rank_has_nothing_to_divide(potential, changes):
    options = replace(OPTIONS, **changes)
    reduction = build_reduction(options, potential, {"a": (0,)}, ALONE)
    assert isinstance(reduction, OverlappedReduction)
    assert reduction.bytes_sent == 0


def test_pieces_must_come_out_even(potential):
    options = replace(OPTIONS, reduction="sharded", shard_ranks=4)
    with pytest.raises(ValueError, match=r"shard_ranks=4 must divide the number of ranks, 1; "):
        build_reduction(options, potential, {"a": (0,)}, ALONE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reduction": "ddp"}, r"reduction=ddp .* give training.placement=everywhere .* wrap-aro"),
        ({"shard_ranks": 2}, r"shard_ranks goes with training.reduction=sharded, got .*overlapped"),
        (
            {"reduction": "sharded", "shard_ranks": 1},
            r"training.shard_ranks must be at least 2, got 1",
        ),
    ],
)
def test_options_that_do_not_go_together(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(OPTIONS, **changes)
