import pytest
import torch
from gfm_pretrain.plan.peak_memory import PeakMemory

KILO = 1024


def test_what_is_given_back_does_not_count_twice() -> None:
    with PeakMemory() as memory:
        for _ in range(5):
            torch.zeros(KILO, dtype=torch.uint8)
    assert memory.peak == KILO
    assert memory.held == 0


def test_what_is_held_at_one_time_adds_up() -> None:
    with PeakMemory() as memory:
        kept = [torch.zeros(KILO, dtype=torch.uint8) for _ in range(3)]
        assert memory.held == 3 * KILO
        del kept[1:]
        assert memory.held == KILO
    assert memory.peak == 3 * KILO


def test_views_and_results_in_place_are_no_new_memory() -> None:
    given = torch.ones(KILO)
    with PeakMemory() as memory:
        given.view(2, -1)[0].add_(1.0)
        given.t()
    assert memory.peak == 0


def test_backward_passes_count() -> None:
    weight = torch.ones(KILO, dtype=torch.float64, requires_grad=True)
    with PeakMemory() as memory:
        weight.exp().sum().backward()
    assert memory.held == 8 * KILO == weight.grad.nbytes  # pyright: ignore[reportOptionalMemberAccess]
    assert memory.peak == pytest.approx(2 * 8 * KILO, abs=64)  # exp and its gradient
