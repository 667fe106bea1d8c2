from fractions import Fraction

import numpy as np
import pytest
from gfm_pretrain.data.sampler import dealt_places
from gfm_pretrain.packing.pack import pack
from gfm_pretrain.packing.passes import split_by_size
from gfm_pretrain.plan.dealing import deal_step, deal_steps, mean_load
from plan_cases import make_index, make_workload


def mixed(*, micro_batch_edges: int = 10**6):
    """Three heads whose structures differ much in size."""
    chance = np.random.default_rng(2)
    indices = {}
    for name, scale in (("a", 10), ("b", 40), ("c", 200)):
        n_atoms = chance.integers(2, scale, 300)
        n_edges = n_atoms * chance.integers(2, 30, 300)
        indices[name] = make_index(n_atoms.tolist(), n_edges.tolist())
    batches = {"a": 37, "b": 20, "c": 8}
    return make_workload(batches, indices, micro_batch_edges=micro_batch_edges)


def slow_sums(workload, owners, n_ranks, step):
    """The same sums, structure by structure, from the engine's own functions."""
    places, costs = {}, {}
    for name, head in workload.heads.items():
        size = int(head.batch_size)
        places[name] = dealt_places(
            range(step * size, (step + 1) * size),
            seed=workload.seed,
            key=name,
            n_structures=len(head.index),
        )
        costs[name] = head.index.costs(places[name], workload.cost)
    sums = np.zeros((5, len(places), n_ranks))
    ranks = pack(costs, owners, n_ranks)
    for rank in range(n_ranks):
        for row, name in enumerate(places):
            if (ranks[name] == rank).any():
                mine, index = places[name][ranks[name] == rank], workload.heads[name].index
                edges = index.edges(mine)
                n_passes = len(split_by_size(edges, workload.micro_batch_edges))
                sums[:, row, rank] = (
                    *(len(mine), index.n_atoms(mine).sum(), edges.sum()),
                    *(index.costs(mine, workload.cost).sum(), n_passes),
                )
    return sums


@pytest.mark.parametrize("limit", [10**6, 900])
@pytest.mark.parametrize("n_ranks", [1, 3, 11, 40])
def test_what_ranks_get_is_what_the_engine_deals(n_ranks, limit) -> None:
    workload = mixed(micro_batch_edges=limit)
    owners = workload.place(n_ranks, method="wrap-around")
    for step in (0, 5):
        dealt = deal_step(workload, owners, n_ranks=n_ranks, step=step)
        sums = slow_sums(workload, owners, n_ranks, step)
        found = (dealt.n_structures, dealt.n_atoms, dealt.n_edges, dealt.costs, dealt.n_passes)
        for name, got, wanted in zip(
            ("n", "atoms", "edges", "costs", "passes"), found, sums, strict=True
        ):
            np.testing.assert_allclose(got, wanted, err_msg=name)
        assert dealt.n_structures.sum() == 65


def test_the_largest_pass_has_at_most_the_edges_allowed_or_one_structure() -> None:
    workload = mixed(micro_batch_edges=900)
    owners = workload.place(3, method="whole-ranks")
    largest_structure = max(
        int(head.index.edges(np.arange(300)).max()) for head in workload.heads.values()
    )
    for dealt in deal_steps(workload, owners, n_ranks=3, n_steps=4):
        assert (dealt.largest_pass[:, 1] <= max(900, largest_structure)).all()
        assert (dealt.largest_pass[:, 1] <= dealt.n_edges.sum(0)).all()
        assert (dealt.largest_pass[:, 1] * dealt.n_passes.sum(0) >= dealt.n_edges.sum(0)).all()


def test_load_is_relative_to_the_mean_over_ranks() -> None:
    workload = mixed()
    owners = workload.place(5, method="wrap-around")
    steps = deal_steps(workload, owners, n_ranks=5, n_steps=3)
    assert mean_load(steps).sum(0).mean() == pytest.approx(1.0)
    assert all(step.efficiency == step.load.mean() / step.load.max() for step in steps)


def test_a_scaled_batch_keeps_the_mixture() -> None:
    workload = mixed().scaled(Fraction(7, 3))
    assert workload.batch_size == Fraction(7, 3) * 65
    sizes = [head.batch_size for head in workload.heads.values()]
    assert sizes == [Fraction(7, 3) * n for n in (37, 20, 8)]
