import pytest
from gfm_pretrain.plan.network import (
    ALGORITHMS,
    Link,
    Network,
    all_reduce_seconds,
    gather_bytes,
    gather_seconds,
    ring_bytes,
)


def network(*algorithms: str, per_node: int = 4, call: float = 0.0) -> Network:
    return Network(
        ranks_per_node=per_node,
        inside=Link(latency=1.0, bandwidth=100.0),
        between=Link(latency=10.0, bandwidth=5.0),
        call=call,
        algorithms=algorithms or ("ring",),
    )


def simulated_ring(n_bytes: float, n_ranks: int) -> tuple[float, int]:
    """Bytes each rank sends and messages one after the other, by doing it with numbers."""
    values = [[float(rank == piece) + rank for piece in range(n_ranks)] for rank in range(n_ranks)]
    wanted = [sum(column) for column in zip(*values, strict=True)]
    sent = messages = 0
    for phase in ("reduce", "gather"):
        for turn in range(n_ranks - 1):
            moving = []
            for rank in range(n_ranks):
                piece = (rank - turn + (phase == "gather")) % n_ranks
                moving.append(((rank + 1) % n_ranks, piece, values[rank][piece]))
            for to, piece, value in moving:
                values[to][piece] = value + (values[to][piece] if phase == "reduce" else 0.0)
            sent, messages = sent + n_bytes / n_ranks, messages + 1
    assert all(row == wanted for row in values)
    return sent, messages


@pytest.mark.parametrize("n_ranks", [2, 3, 5, 8])
def test_a_ring_sends_what_the_formula_says(n_ranks) -> None:
    sent, messages = simulated_ring(840.0, n_ranks)
    assert ring_bytes(840.0, n_ranks) == pytest.approx(sent)
    inside = all_reduce_seconds(network(per_node=n_ranks), 840.0, n_ranks)
    assert inside == pytest.approx(messages * 1.0 + sent / 100.0)


def test_one_rank_sends_nothing() -> None:
    assert ring_bytes(100.0, 1) == gather_bytes(100.0, 1) == 0
    for name in ALGORITHMS:
        assert all_reduce_seconds(network(name, call=3.0), 100.0, 1) == 0
    assert gather_seconds(network(call=3.0), 100.0, 1) == 0


def test_a_sum_is_a_scatter_and_a_gather() -> None:
    assert ring_bytes(100.0, 7) == 2 * gather_bytes(100.0, 7)
    assert all_reduce_seconds(network(), 64.0, 8) == pytest.approx(
        2 * gather_seconds(network(), 64.0, 8)
    )


def test_algorithms_between_nodes() -> None:
    # 8 ranks on 2 nodes of 4: 6 hops inside and 2 between in a ring, at 4 · 5 bytes/s of a node.
    assert all_reduce_seconds(network("ring"), 80.0, 8) == pytest.approx(2 * 26 + 140 / 20)
    assert all_reduce_seconds(network("tree"), 80.0, 8) == pytest.approx(2 * (3 + 10) + 160 / 20)
    inside = 2 * (3 * 1.0 + 60 / 100)
    assert all_reduce_seconds(network("hierarchical"), 80.0, 8) == pytest.approx(
        inside + 20 + 20 / 5
    )


def test_the_fastest_algorithm_counts() -> None:
    for n_ranks in (2, 8, 64, 4096):
        for n_bytes in (1.0, 1e3, 1e9):
            each = [all_reduce_seconds(network(a, call=7.0), n_bytes, n_ranks) for a in ALGORITHMS]
            best = all_reduce_seconds(network(*ALGORITHMS, call=7.0), n_bytes, n_ranks)
            assert best == min(each)
            assert best > 7.0


def test_trees_win_with_many_ranks_and_rings_with_many_bytes() -> None:
    def faster(n_bytes: float, n_ranks: int) -> str:
        return min(
            ("ring", "tree"), key=lambda name: all_reduce_seconds(network(name), n_bytes, n_ranks)
        )

    assert faster(10.0, 40_000) == "tree"
    assert faster(1e6, 8) == "ring"


def test_members_on_different_nodes_use_their_own_links() -> None:
    # Every fourth of 16 ranks: four nodes with one member each.
    assert all_reduce_seconds(network("ring"), 80.0, 4, stride=4) == pytest.approx(
        2 * 4 * 10 + 120 / 5
    )
