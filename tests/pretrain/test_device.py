"""What can be shown without an accelerator; those that torch pretends to see are fakes."""

from types import SimpleNamespace

import pytest
import torch
from gfm_pretrain import device as device_module
from gfm_pretrain.device import BACKENDS, local_device, peak_memory, set_precision

CPU = torch.device("cpu")


@pytest.fixture
def fake(monkeypatch) -> dict[str, SimpleNamespace]:
    """Four devices of each kind; which one was made current is noted."""

    def accelerator() -> SimpleNamespace:
        module = SimpleNamespace(chosen=None, is_available=lambda: True, device_count=lambda: 4)
        module.set_device = lambda device: setattr(module, "chosen", device)
        module.max_memory_allocated = lambda device: 1000 + device.index
        return module

    modules = {kind: accelerator() for kind in ("cuda", "xpu")}
    monkeypatch.setattr(device_module, "ACCELERATORS", modules)
    return modules


@pytest.fixture
def exactness():
    """Restored after the test."""
    before = torch.get_float32_matmul_precision()
    yield torch.get_float32_matmul_precision
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(("local_rank", "index"), [(0, 0), (3, 3), (4, 0), (9, 1)])
@pytest.mark.parametrize(("name", "kind"), [("auto", "cuda"), ("cuda", "cuda"), ("xpu", "xpu")])
def test_ranks_of_a_node_take_its_devices_in_turn(fake, name, kind, local_rank, index):
    device = local_device(name, local_rank)
    assert device == torch.device(kind, index) == fake[kind].chosen
    assert peak_memory(device) == 1000 + index


def test_without_an_accelerator_auto_is_the_cpu(monkeypatch, fake):
    for module in fake.values():
        module.is_available = lambda: False
    assert local_device("auto", 1) == CPU
    with pytest.raises(ValueError, match=r"device=cuda but torch .* sees none .* available: cpu$"):
        local_device("cuda", 0)


def test_an_unknown_kind_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="one of auto, cpu, cuda, xpu, got 'gpu'"):
        local_device("gpu", 0)


def test_every_kind_has_its_backend():
    assert BACKENDS == {"cpu": "gloo", "cuda": "nccl", "xpu": "xccl"}


def test_products_are_exact_unless_asked_for(exactness):
    torch.set_float32_matmul_precision("medium")
    set_precision("full", CPU)
    assert exactness() == "highest"


def test_tf32_is_for_those_who_ask_for_it(exactness):
    set_precision("tf32", torch.device("cuda", 0))
    assert exactness() == "high"
    with pytest.raises(ValueError, match="tf32 is for cuda, xpu, this run uses cpu; use"):
        set_precision("tf32", CPU)


def test_the_peak_of_a_process_grows_with_what_it_holds():
    before = peak_memory(CPU)
    held = torch.ones(before // 4 + 50_000_000 // 4)  # more than ever before
    assert peak_memory(CPU) >= before + 40_000_000
    assert held.sum() > 0
