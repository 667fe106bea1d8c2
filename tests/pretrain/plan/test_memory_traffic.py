import numpy as np
import pytest
from gfm_pretrain.plan.dealing import deal_step
from gfm_pretrain.plan.memory import activation_bytes, parameters_held, state_bytes
from gfm_pretrain.plan.strategy import STRATEGIES
from gfm_pretrain.plan.traffic import bytes_sent
from plan_cases import PROFILE, make_workload

FIVE = {"a": 4, "b": 4, "c": 4, "d": 4, "e": 4}
EVERYWHERE = STRATEGIES["ddp"]


def test_parameters_are_those_of_the_backbone_and_of_the_heads_owned() -> None:
    workload = make_workload(FIVE)
    backbone, head = workload.backbone.n_parameters, workload.heads["a"].size.n_parameters
    owners = workload.place(5, method="whole-ranks")
    assert parameters_held(workload, owners, n_ranks=5).tolist() == [backbone + head] * 5
    everywhere = EVERYWHERE.owners(workload, 5)
    assert parameters_held(workload, everywhere, n_ranks=5).tolist() == [backbone + 5 * head] * 5
    two = workload.place(2, method="wrap-around")
    assert parameters_held(workload, two, n_ranks=2).tolist() == [backbone + 3 * head] * 2


def test_state_is_six_numbers_for_each_parameter_and_three_where_it_is_frozen() -> None:
    workload = make_workload(FIVE)
    backbone, head = workload.backbone.n_parameters, workload.heads["a"].size.n_parameters
    owners = workload.place(5, method="whole-ranks")
    assert state_bytes(workload, owners, n_ranks=5).tolist() == [24 * (backbone + head)] * 5
    frozen = make_workload(FIVE, frozen=True)
    assert state_bytes(frozen, owners, n_ranks=5)[0] == 12 * backbone + 24 * head


def test_a_sharded_backbone_is_there_in_parts_and_whole_while_it_is_needed() -> None:
    workload = make_workload(FIVE)
    backbone, head = workload.backbone.n_parameters, workload.heads["a"].size.n_parameters
    owners = workload.place(10, method="whole-ranks")
    found = state_bytes(workload, owners, n_ranks=10, n_shards=5)
    assert found[0] == 24 * backbone // 5 + 8 * backbone + 24 * head


def test_traffic_of_plain_ddp_is_a_ring_over_everything() -> None:
    workload = make_workload(FIVE)
    total = workload.backbone.n_parameters + 5 * workload.heads["a"].size.n_parameters
    owners = EVERYWHERE.owners(workload, 8)
    sent = bytes_sent(workload, owners, n_ranks=8)
    np.testing.assert_allclose(sent, 2 * 7 / 8 * total * 4)


def test_traffic_of_multi_task_parallelism_is_a_ring_for_each_group() -> None:
    workload = make_workload(FIVE)
    backbone, head = workload.backbone.n_parameters, workload.heads["a"].size.n_parameters
    owners = {"a": (0, 1, 2), "b": (2, 3), "c": (4,), "d": (5,), "e": (5, 6, 7)}
    sent = bytes_sent(workload, owners, n_ranks=8)
    of_backbone = 2 * 7 / 8 * backbone * 4
    of_three, of_two = 2 * 2 / 3 * head * 4, 2 * 1 / 2 * head * 4
    wanted = [of_three, of_three, of_three + of_two, of_two, 0.0, of_three, of_three, of_three]
    np.testing.assert_allclose(sent, of_backbone + np.array(wanted))


def test_traffic_of_a_sharded_backbone() -> None:
    workload = make_workload({"a": 4})
    n = workload.backbone.n_parameters * 4
    alone = {"a": (0,)}
    # In halves on each of two nodes: gathered, scattered, and the halves summed.
    sent = bytes_sent(workload, alone, n_ranks=4, n_shards=2)
    np.testing.assert_allclose(sent, n / 2 + n / 2 + 2 * (1 / 2) * n / 2)
    frozen = make_workload({"a": 4}, frozen=True)
    np.testing.assert_allclose(bytes_sent(frozen, alone, n_ranks=4), 0.0)


@pytest.mark.parametrize("everywhere", [False, True])
def test_activations_are_those_of_the_largest_pass(everywhere) -> None:
    workload = make_workload({"a": 30, "b": 6}, micro_batch_edges=1000)
    owners = workload.place(2, method="whole-ranks")
    dealt = deal_step(workload, owners, n_ranks=2, step=0)
    found = activation_bytes(dealt, PROFILE, everywhere=everywhere, micro_batch_edges=1000)
    # Ten structures of 10 atoms and 100 edges fill a pass; rank 1 has six of head b.
    assert found.tolist() == [10 * (10 * 1000 + 100 * 100), 6 * (10 * 1000 + 100 * 100)]
