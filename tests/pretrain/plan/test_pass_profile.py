from typing import Any

import pytest
import torch
from gfm_models.backbone import BackboneConfig
from gfm_models.derivatives import predict
from gfm_models.heads import HeadConfig
from gfm_models.potential import build_potential
from gfm_pretrain.plan.pass_profile import HEAD, _crystal, measure_pass
from torch.profiler import ProfilerActivity, profile

SMALL = BackboneConfig(channels=16)


@pytest.fixture(scope="module")
def found():
    return measure_pass(SMALL, width=16, dtype=torch.float32, bytes_per_bucket=8000)


def profiled_peak(graph) -> int:
    """Largest memory of a pass, by torch's own profiler."""
    described = HeadConfig(
        level_of_theory="", reference_energies={"Si": 0.0}, scales={"Si": 1.0}, width=16
    )
    potential = build_potential(SMALL, {HEAD: described})
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        prediction = predict(potential, graph, HEAD, create_graph=True)
        (prediction.energy.square().sum() + prediction.forces.square().sum()).backward()
    results: Any = prof.profiler  # types of what the profiler holds are not public
    events = [e for e in results.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@pytest.mark.parametrize(("n", "constant"), [(5, 0.6), (6, 0.5), (4, 0.42)])
def test_memory_of_a_pass_is_what_the_profiler_sees(found, n, constant) -> None:
    graph = _crystal(n, constant, SMALL.cutoff)
    predicted = found.bytes_per_atom * graph.n_nodes + found.bytes_per_edge * graph.n_edges
    assert predicted == pytest.approx(profiled_peak(graph), rel=0.05)


def test_gradients_come_during_the_backward_pass(found) -> None:
    assert 0.2 < found.backward_part < 0.95
    for parts in (found.ready_backbone, found.ready_head):
        assert parts
        assert all(0 < part <= 1 for part in parts)
    assert len(found.ready_backbone) > 2
    assert found.ready_backbone[0] < found.ready_backbone[-1]  # the last layer comes first


def test_the_number_of_threads_is_left_as_it_was(found) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        measure_pass(
            BackboneConfig(channels=2), width=2, dtype=torch.float64, bytes_per_bucket=8000
        )
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
