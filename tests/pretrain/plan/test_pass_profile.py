from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gfm_models.backbone import BackboneConfig
from gfm_models.heads import HeadConfig
from gfm_models.potential import build_potential
from gfm_pretrain.plan.pass_profile import HEAD, _crystal, _loss, measure_pass
from torch.profiler import ProfilerActivity, profile

SMALL = BackboneConfig(channels=16)


@pytest.fixture(scope="module", params=[None, 512])
def block_edges(request) -> int | None:
    return request.param


@pytest.fixture(scope="module")
def found(block_edges):
    return measure_pass(
        SMALL, width=16, dtype=torch.float32, bytes_per_bucket=8000, block_edges=block_edges
    )


def potential_of_test(block_edges: int | None):
    described = HeadConfig(
        level_of_theory="", reference_energies={"Si": 0.0}, scales={"Si": 1.0}, width=16
    )
    potential = build_potential(SMALL, {HEAD: described})
    potential.backbone.recompute_in_blocks(block_edges)
    return potential


def profiled_peak(work: Callable[[], object]) -> int:
    """Largest memory that torch's allocator gave out meanwhile, by its own profiler."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        work()
    results: Any = prof.profiler  # types of what the profiler holds are not public
    events = [e for e in results.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@pytest.mark.parametrize(("n", "constant"), [(6, 0.6), (5, 0.5), (5, 0.42)])
def test_memory_of_a_pass_is_what_the_profiler_sees(found, block_edges, n, constant) -> None:
    graph, potential = _crystal(n, constant, SMALL.cutoff), potential_of_test(block_edges)
    predicted = found.activation_bytes(np.array([[graph.n_nodes, graph.n_edges]]))[0]
    peak = profiled_peak(lambda: _loss(potential, graph).backward())
    assert predicted == pytest.approx(peak, rel=0.05 if block_edges is None else 0.2)


def test_a_pass_in_blocks_takes_less_memory_and_a_block() -> None:
    sizes = np.array([[1000.0, 20_000.0], [0.0, 0.0]])
    kind = {"width": 16, "dtype": torch.float32, "bytes_per_bucket": 8000}
    kept, again = (measure_pass(SMALL, **kind, block_edges=b) for b in (None, 512))
    assert 0 < kept.bytes_of_pass < again.bytes_of_pass
    assert again.activation_bytes(sizes)[0] < 0.5 * kept.activation_bytes(sizes)[0]
    assert again.activation_bytes(sizes)[1] == 0  # an idle rank makes no pass


def test_gradients_come_during_the_backward_pass(found) -> None:
    assert 0.2 < found.backward_part < 0.98
    for parts in (found.ready_backbone, found.ready_head):
        assert parts
        assert all(0 < part <= 1 for part in parts)
    assert len(found.ready_backbone) > 2
    assert found.ready_backbone[0] < found.ready_backbone[-1]  # the last layer comes first


def test_the_number_of_threads_is_left_as_it_was() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        measure_pass(
            BackboneConfig(channels=2), width=2, dtype=torch.float64, bytes_per_bucket=8000
        )
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
