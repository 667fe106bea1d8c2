from dataclasses import replace

import numpy as np
import pytest
from gfm_pretrain.plan.dealing import Dealt, deal_step
from gfm_pretrain.plan.machine import Hardware, read_machine
from gfm_pretrain.plan.network import all_reduce_seconds, gather_seconds
from gfm_pretrain.plan.pass_profile import PassProfile
from gfm_pretrain.plan.strategy import STRATEGIES
from gfm_pretrain.plan.timeline import NUMBERS_AGREED, NUMBERS_MOVED, Simulator
from plan_cases import COST, PROFILE, make_index, make_workload

LIKELY = read_machine("frontier").hardware("likely")


def instant(hardware: Hardware = LIKELY) -> Hardware:
    """A machine whose network and memory take no time."""
    no_time = replace(hardware.network.inside, latency=0.0, bandwidth=float("inf"))
    network = replace(hardware.network, inside=no_time, between=no_time, call=0.0)
    return replace(hardware, network=network, memory_bandwidth=float("inf"))


def mixed_workload(**kind):
    chance = np.random.default_rng(4)
    indices = {}
    for name, scale in (("a", 10), ("b", 40), ("c", 90), ("d", 20)):
        n_atoms = chance.integers(2, scale, 200)
        indices[name] = make_index(n_atoms.tolist(), (n_atoms * 12).tolist())
    return make_workload({"a": 30, "b": 9, "c": 5, "d": 2}, indices, **kind)


def simulator(workload, name: str, n_ranks: int, **changes) -> Simulator:
    strategy = STRATEGIES[name]
    n_buckets = (
        len(workload.backbone.buckets),
        len(next(iter(workload.heads.values())).size.buckets),
    )
    profile = replace(
        PROFILE,
        ready_backbone=tuple(np.linspace(0.4, 1.0, n_buckets[0]).tolist()),
        ready_head=tuple(np.linspace(0.3, 0.5, n_buckets[1]).tolist()),
    )
    given = {
        "workload": workload,
        "strategy": strategy,
        "owners": strategy.owners(workload, n_ranks),
        "n_ranks": n_ranks,
        "cost": COST,
        "hardware": LIKELY,
        "profile": profile,
    }
    return Simulator(**{**given, **changes})


def play_slowly(sim: Simulator, dealt: Dealt, noise) -> tuple[float, float, float]:
    """End of the step, of the last pass, and of the last sum, rank by rank and event by event."""
    hardware, profile, n_heads = sim.hardware, sim.profile, len(sim.owners)
    ready: list[dict] = []
    ends = []
    for rank in range(sim.n_ranks):
        clock, mine = 0.0, {}
        for row, head in enumerate(sim.owners):
            n_passes = int(dealt.n_passes[row, rank])
            if not n_passes:
                continue
            size = COST.per_atom * dealt.n_atoms[row, rank]
            size += COST.per_edge * dealt.n_edges[row, rank]
            each = (COST.per_pass / hardware.pass_rate) * noise[rank]
            each += size / hardware.rate / n_passes * noise[rank]
            for _ in range(n_passes):
                backward = clock + (1 - profile.backward_part) * each
                length = profile.backward_part * each
                for place, part in enumerate(profile.ready_head):
                    mine[head, place] = backward + part * length
                for place, part in enumerate(profile.ready_backbone):
                    mine["backbone", place] = backward + part * length
                clock += each
        ready.append(mine)
        ends.append(clock)
    sent_until = [0.0] * sim.n_ranks
    groups = [(h, ranks, sim.workload.heads[h].size.buckets) for h, ranks in sim.owners.items()]
    groups.append(("backbone", tuple(range(sim.n_ranks)), sim.workload.backbone.buckets))
    for part, ranks, buckets in groups:
        for place, n_bytes in enumerate(buckets):
            seconds = all_reduce_seconds(hardware.network, n_bytes, len(ranks))
            if not seconds:
                continue
            start = max(max(sent_until[r], ready[r].get((part, place), 0.0)) for r in ranks)
            for rank in ranks:
                sent_until[rank] = start + seconds
    last_pass, last_sum = max(ends), max(sent_until)
    agreed = 8 * (NUMBERS_AGREED + 2 * n_heads)
    end = max(last_pass, last_sum) + all_reduce_seconds(hardware.network, agreed, sim.n_ranks)
    held = sim.workload.backbone.n_parameters + max(
        sum(sim.workload.heads[h].size.n_parameters for h, own in sim.owners.items() if r in own)
        for r in range(sim.n_ranks)
    )
    return end + NUMBERS_MOVED * 4 * held / hardware.memory_bandwidth, last_pass, last_sum


@pytest.mark.parametrize("name", ["wrap-around", "whole-ranks"])
@pytest.mark.parametrize("n_ranks", [2, 5, 13, 30])
def test_events_are_those_of_a_slow_simulation(name, n_ranks) -> None:
    workload = mixed_workload(bytes_per_bucket=1500, micro_batch_edges=900)
    assert len(workload.backbone.buckets) > 2
    sim = simulator(workload, name, n_ranks)
    chance = np.random.default_rng(1)
    for step in range(4):
        dealt = deal_step(workload, sim.owners, n_ranks=n_ranks, step=step)
        noise = chance.uniform(0.8, 1.5, n_ranks)
        end, last_pass, last_sum = play_slowly(sim, dealt, noise)
        found = sim.run(dealt, noise)
        assert found.seconds == pytest.approx(end, rel=1e-12)
        assert found.slowest == pytest.approx(last_pass, rel=1e-12)
        assert found.exposed == pytest.approx(max(0.0, last_sum - last_pass), abs=1e-15)


def test_one_rank_computes_and_updates_and_waits_for_nobody() -> None:
    workload = make_workload({"a": 8, "b": 8})
    sim = simulator(workload, "wrap-around", 1)
    found = sim.run(deal_step(workload, sim.owners, n_ranks=1, step=0))
    work = 2 * COST.per_pass / LIKELY.pass_rate
    work += (160 * COST.per_atom + 1600 * COST.per_edge) / LIKELY.rate
    n_parameters = workload.backbone.n_parameters + 2 * workload.heads["a"].size.n_parameters
    update = NUMBERS_MOVED * 4 * n_parameters / LIKELY.memory_bandwidth
    assert found.seconds == pytest.approx(work + update)
    assert found.compute == found.slowest == pytest.approx(work)
    assert found.wait == found.exposed == found.communication == 0
    assert found.balance == 1


def test_without_a_network_a_step_is_its_slowest_rank() -> None:
    workload = mixed_workload()
    for name in STRATEGIES:
        sim = simulator(workload, name, 6, hardware=instant())
        found = sim.run(deal_step(workload, sim.owners, n_ranks=6, step=1))
        assert found.seconds == pytest.approx(found.slowest)
        assert found.exposed == pytest.approx(0, abs=1e-15)
        assert found.wait == pytest.approx(found.slowest - found.compute)
        assert found.efficiency == pytest.approx(found.balance)


def test_ddp_takes_structures_of_all_heads_at_once() -> None:
    workload = make_workload({"a": 8, "b": 8}, micro_batch_edges=800)
    ddp = simulator(workload, "ddp", 1, hardware=instant())
    found = ddp.run(deal_step(workload, ddp.owners, n_ranks=1, step=0))
    parallel = simulator(workload, "wrap-around", 1, hardware=instant())
    other = parallel.run(deal_step(workload, parallel.owners, n_ranks=1, step=0))
    assert found.seconds == pytest.approx(other.seconds)  # both need two passes of 800 edges
    larger = replace(workload, micro_batch_edges=1600)
    ddp, parallel = (replace(sim, workload=larger) for sim in (ddp, parallel))
    found = ddp.run(deal_step(larger, ddp.owners, n_ranks=1, step=0))
    other = parallel.run(deal_step(larger, parallel.owners, n_ranks=1, step=0))
    assert other.seconds - found.seconds == pytest.approx(COST.per_pass / LIKELY.pass_rate)


def test_sums_hide_behind_a_backward_pass_that_is_long_enough() -> None:
    workload = make_workload({"a": 64}, bytes_per_bucket=1500)
    early = replace(PROFILE, ready_backbone=(0.0,) * len(workload.backbone.buckets))
    sim = simulator(workload, "whole-ranks", 16)
    sim = replace(sim, profile=replace(early, ready_head=(0.0,)))
    dealt = deal_step(workload, sim.owners, n_ranks=16, step=0)
    slow = replace(sim, cost=replace(COST, per_edge=1e-2))
    assert slow.run(dealt).exposed == 0
    assert slow.run(dealt).communication > 0
    late = replace(slow, profile=replace(sim.profile, ready_backbone=(1.0,) * 9, ready_head=(1.0,)))
    late = replace(
        late,
        profile=replace(late.profile, ready_backbone=(1.0,) * len(workload.backbone.buckets)),
    )
    assert late.run(dealt).exposed == pytest.approx(late.run(dealt).communication)


def test_a_slow_rank_makes_all_wait() -> None:
    workload = make_workload({"a": 64})
    sim = simulator(workload, "whole-ranks", 8)
    dealt = deal_step(workload, sim.owners, n_ranks=8, step=0)
    even, noise = sim.run(dealt), np.ones(8)
    noise[3] = 2.0
    uneven = sim.run(dealt, noise)
    assert uneven.seconds - even.seconds == pytest.approx(even.slowest)
    assert uneven.wait == pytest.approx(even.slowest * (1 - 1 / 8))


def test_a_sharded_backbone_is_gathered_before_and_summed_after_all_passes() -> None:
    workload = mixed_workload()
    whole = simulator(workload, "wrap-around", 16)
    parts = simulator(workload, "sharded", 16)
    assert (whole.n_shards, parts.n_shards) == (1, 8)
    dealt = deal_step(workload, whole.owners, n_ranks=16, step=0)
    found, other = parts.run(dealt), whole.run(dealt)
    assert (found.compute, found.slowest) == pytest.approx((other.compute, other.slowest))
    network, n_bytes = LIKELY.network, workload.backbone.n_parameters * 4
    gather = gather_seconds(network, n_bytes, 8)
    between = all_reduce_seconds(network, n_bytes / 8, 2, stride=8)
    assert found.exposed >= 2 * gather + between
    assert found.exposed == pytest.approx(2 * gather + between, rel=0.2)


@pytest.mark.parametrize(
    ("n_ranks", "per_node", "n_shards"), [(1, 8, 1), (4, 8, 4), (64, 8, 8), (40, 12, 10), (7, 4, 1)]
)
def test_pieces_of_a_backbone_divide_the_ranks(n_ranks, per_node, n_shards) -> None:
    assert STRATEGIES["sharded"].n_shards(n_ranks, per_node) == n_shards
    assert STRATEGIES["wrap-around"].n_shards(n_ranks, per_node) == 1


@pytest.mark.parametrize("profile", [PROFILE])
def test_a_frozen_backbone_is_not_summed(profile: PassProfile) -> None:
    workload = make_workload({"a": 8, "b": 8}, frozen=True)
    sim = simulator(workload, "whole-ranks", 2, profile=replace(profile, ready_backbone=()))
    found = sim.run(deal_step(workload, sim.owners, n_ranks=2, step=0))
    assert found.communication == 0
