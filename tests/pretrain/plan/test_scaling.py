import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from gfm_pretrain.plan.machine import CASES, read_machine
from gfm_pretrain.plan.prediction import Jitter, Question, predict_all
from gfm_pretrain.plan.scaling import (
    parse_numbers,
    rank_numbers,
    scale,
    scaling_facts,
    scaling_table,
    with_band,
)
from gfm_pretrain.plan.strategy import STRATEGIES
from plan_cases import COST, PROFILE, make_workload

QUESTION = Question(machine=read_machine("frontier"), cost=COST, profile=PROFILE, n_steps=2)
WORKLOAD = make_workload({"a": 60, "b": 25, "c": 15})


@pytest.fixture(scope="module")
def weak():
    return scale(WORKLOAD, QUESTION, [1, 8, 64, 512], kind="weak", batch_size=Fraction(16))


@pytest.fixture(scope="module")
def strong():
    return scale(WORKLOAD, QUESTION, [1, 8, 64, 512], kind="strong", batch_size=Fraction(2048))


def test_batches_grow_only_in_weak_scaling(weak, strong) -> None:
    for name in STRATEGIES:
        assert [p.batch_size for p in weak.predictions[name]] == [16, 128, 1024, 8192]
        assert {p.batch_size for p in strong.predictions[name]} == {2048}


def test_efficiency_is_relative_to_one_rank_of_ddp(weak, strong) -> None:
    for scaling in (weak, strong):
        for case in CASES:
            assert scaling.efficiency("ddp", case)[0] == 1
            for name in STRATEGIES:
                values = scaling.efficiency(name, case)
                assert all(0 < value <= 1.001 for value in values)
            seconds = [p.mean(case, "seconds") for p in scaling.predictions["ddp"]]
            batches = [p.batch_size / p.n_ranks for p in scaling.predictions["ddp"]]
            wanted = [
                b / s * seconds[0] / batches[0] for b, s in zip(batches, seconds, strict=True)
            ]
            assert scaling.efficiency("ddp", case) == pytest.approx(wanted)


def test_steps_take_longest_in_the_slow_case(weak) -> None:
    for predictions in weak.predictions.values():
        for p in predictions:
            slow, likely, fast = (p.mean(case, "seconds") for case in CASES)
            assert slow > likely > fast


def test_heads_on_their_own_ranks_send_and_hold_less(weak) -> None:
    ddp, whole = weak.predictions["ddp"][-1], weak.predictions["whole-ranks"][-1]
    n_head = WORKLOAD.heads["a"].size.n_parameters
    assert ddp.parameters_per_rank - whole.parameters_per_rank == 2 * n_head
    assert ddp.state_bytes - whole.state_bytes == 2 * 24 * n_head
    assert ddp.bytes_sent > whole.bytes_sent


def test_jitter_slows_all_and_is_repeatable() -> None:
    shaken = replace(QUESTION, jitter=Jitter(spread=0.2, seed=3))
    first, again = (predict_all(WORKLOAD, shaken, 64) for _ in range(2))
    calm = predict_all(WORKLOAD, QUESTION, 64)
    for p, same, still in zip(first, again, calm, strict=True):
        assert p == same
        assert p.mean("likely", "seconds") > 1.05 * still.mean("likely", "seconds")
    other = predict_all(WORKLOAD, replace(QUESTION, jitter=Jitter(spread=0.2, seed=4)), 64)
    assert other[0].mean("likely", "seconds") != first[0].mean("likely", "seconds")


def test_the_slowest_of_many_noisy_ranks_is_as_far_off_as_extremes_are() -> None:
    # One structure of one size on each rank: the maximum of R normal numbers is σ √(2 ln R) off.
    workload = make_workload({"a": 4096})
    question = replace(QUESTION, jitter=Jitter(spread=0.05), n_steps=8)
    [ddp] = [p for p in predict_all(workload, question, 4096) if p.strategy == "ddp"]
    found = 1 / ddp.mean("likely", "balance")
    assert found == pytest.approx(np.exp(0.05 * np.sqrt(2 * np.log(4096))), rel=0.03)


def test_few_steps_are_played_where_they_are_large() -> None:
    big = WORKLOAD.scaled(Fraction(400))
    assert {len(p.steps["likely"]) for p in predict_all(big, QUESTION, 8)} == {1}
    assert {len(p.steps["likely"]) for p in predict_all(WORKLOAD, QUESTION, 8)} == {2}


def test_numbers_of_ranks() -> None:
    assert rank_numbers(1, 40_000, ranks_per_node=8)[:6] == [1, 2, 4, 8, 16, 32]
    assert rank_numbers(1, 100, ranks_per_node=12) == [1, 2, 4, 8, 12, 24, 48, 96, 100]
    assert parse_numbers("8-64", ranks_per_node=8) == [8, 16, 32, 64]
    assert parse_numbers("3,17", ranks_per_node=8) == [3, 17]
    assert parse_numbers("5", ranks_per_node=8) == [5]


@pytest.mark.parametrize("text", ["", "8-", "a", "0-8", "0", "16,8", "8-4", "1.5"])
def test_wrong_numbers_of_ranks_are_errors(text) -> None:
    with pytest.raises(ValueError, match=f"--devices must be a range.*got '{text}'"):
        parse_numbers(text, ranks_per_node=8)


def test_the_table_has_a_row_for_each_prediction(weak) -> None:
    lines = scaling_table(weak).splitlines()
    assert len(lines) == 2 + 4 * len(STRATEGIES)
    assert lines[2].split()[:4] == ["ddp", "1", "16", "1.00"]
    assert with_band([3.0, 2.0, 1.0], ".1f") == "2.0 (1.0–3.0)"
    assert with_band([1.01, 1.0, 1.0], ".1f") == "1.0"


def test_figures_are_plain_and_complete(strong) -> None:
    facts = json.loads(json.dumps(scaling_facts(strong)))
    assert facts["kind"] == "strong"
    assert facts["machine"]["sources"]["rate"].startswith("assumption")
    assert len(facts["predictions"]) == 4 * len(STRATEGIES)
    last = facts["predictions"][-1]
    assert last["n_ranks"] == 512
    assert len(last["steps"]["slow"]) == 2
    assert last["efficiency"]["likely"] == strong.efficiency("sharded", "likely")[-1]
