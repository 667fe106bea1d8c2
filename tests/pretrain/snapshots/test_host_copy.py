import torch
from gfm_pretrain.snapshots.host_copy import HostCopy


def test_training_does_not_change_a_copy():
    copy, weight = HostCopy(), torch.nn.Parameter(torch.arange(6.0).view(2, 3))
    kept = copy("w", weight)
    copy.wait()
    with torch.no_grad():
        weight.zero_()
    assert torch.equal(kept, torch.arange(6.0).view(2, 3))
    assert not kept.requires_grad


def test_memory_is_kept_for_the_next_time():
    copy = HostCopy()
    first = copy("w", torch.ones(3))
    assert copy("w", torch.zeros(3)).data_ptr() == first.data_ptr()
    assert copy("v", torch.ones(3)).data_ptr() != first.data_ptr()


def test_another_shape_or_precision_is_another_copy():
    copy = HostCopy()
    copy("w", torch.ones(3))
    assert copy("w", torch.ones(4)).shape == (4,)
    assert copy("w", torch.ones(4, dtype=torch.float64)).dtype == torch.float64
