import pytest
import torch
from gfm_models.heads import HeadConfig
from gfm_models.potential import build_potential
from gfm_pretrain.plan.parameters import NOBODY, backbone_size, head_size
from gfm_pretrain.reduction.buckets import fill_buckets
from plan_cases import BYTES_PER_BUCKET, TINY


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sizes_are_those_of_a_real_potential(dtype) -> None:
    head = HeadConfig(
        level_of_theory="x", reference_energies={"H": 0.0}, scales={"H": 1.0}, width=7
    )
    potential = build_potential(TINY, {"h": head}, dtype=dtype)
    found = {
        "backbone": backbone_size(TINY, dtype=dtype, bytes_per_bucket=BYTES_PER_BUCKET),
        "head": head_size(TINY, 7, dtype=dtype, bytes_per_bucket=BYTES_PER_BUCKET),
    }
    for name, module in (("backbone", potential.backbone), ("head", potential.head("h"))):
        parameters = list(module.parameters())
        buckets = fill_buckets(parameters, NOBODY, bytes_per_bucket=BYTES_PER_BUCKET)
        n_bytes = [bucket.flat.nbytes for bucket in buckets]
        assert found[name].n_parameters == sum(p.numel() for p in parameters)
        assert found[name].n_trained == found[name].n_parameters
        assert list(found[name].buckets) == n_bytes
        assert found[name].gradient_bytes == sum(p.nbytes for p in parameters)
    assert len(found["backbone"].buckets) > 1


def test_a_frozen_backbone_sends_nothing() -> None:
    found = backbone_size(TINY, dtype=torch.float32, bytes_per_bucket=100, frozen=True)
    assert found.n_parameters > 0
    assert (found.n_trained, found.buckets, found.gradient_bytes) == (0, (), 0)
