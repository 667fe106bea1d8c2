"""All ways of summing give the gradient of one process, for 2 to 8 ranks and 1 to 8 heads.

And they hold and send what the formulas say. Processes start once for all of it: see
programs/exactness_program.py, and programs/exactness_cases.py for what is tried.
"""

import json
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from launch import launch
from programs.exactness_cases import WORLDS
from tiny_run import write_run, write_yaml

PROGRAM = Path(__file__).parent / "programs" / "exactness_program.py"
TOLERANCE = {"float64": 1e-13, "float32": 1e-5}
AFTER_STEPS = {"float64": 1e-11}
"""Adam divides by the root of a moment, which enlarges the rounding of small gradients."""

Told = list[dict[str, Any]]

pytestmark = [pytest.mark.mpi, pytest.mark.slow]


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[str, Told]:
    """What the program said, by what it is about."""
    config = write_eight_heads(tmp_path_factory.mktemp("eight"))
    result = launch(PROGRAM, str(config), n_ranks=max(WORLDS), timeout_seconds=600)
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return {what: [f for f in lines if f["what"] == what] for what in KINDS}


KINDS = ("exactness", "traffic", "order", "moved")


def write_eight_heads(folder: Path) -> Path:
    """The five heads of the small run, and three more with other weights and widths."""
    path = write_run(folder)
    mapping = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name in ("wb97x", "mlearn", "rmd17"):
        mapping["heads"][f"{name}_again"] = {**mapping["heads"][name], "width": 5, "weight": 0.7}
    return write_yaml(path, mapping)


def of_case(facts: dict[str, Any]) -> str:
    """For the message of a failed assertion."""
    return f"{facts['n_ranks']} ranks, {facts['case']}"


def test_gradients_are_those_of_one_process(told):
    for facts in told["exactness"]:
        differences, dtype = facts["gradients"], facts["case"]["dtype"]
        assert max(differences.values()) < TOLERANCE[dtype], (of_case(facts), differences)
        assert len(differences) == facts["case"]["heads"] + (not facts["case"]["frozen"])
        found, expected = facts["norms"]
        assert found == pytest.approx(expected, rel=TOLERANCE[dtype]), of_case(facts)


def test_what_was_tried_is_what_is_claimed(told):
    """1 to 8 heads, 2 to 8 ranks with each reduction, accumulation, and ranks without work."""
    tried = told["exactness"]
    for reduction in ("overlapped", "sharded", "ddp"):
        of_reduction = [f for f in tried if f["case"]["reduction"] == reduction]
        assert {f["n_ranks"] for f in of_reduction} == set(WORLDS)
        assert {f["case"]["dtype"] for f in of_reduction} == set(TOLERANCE)
        assert any(min(f["passes"]) == 0 for f in of_reduction)
        assert any(max(f["passes"]) > 2 for f in of_reduction)
        assert any(f["case"]["checkpoint"] for f in of_reduction)
    assert {f["case"]["heads"] for f in tried} == set(range(1, 9))
    groups = [len(ranks) for f in tried for ranks in f["owners"].values()]
    assert {1, 2, 3} <= set(groups)
    shared_by_a_rank = [Counter(r for rs in f["owners"].values() for r in rs) for f in tried]
    assert any(max(c.values()) > 1 for c in shared_by_a_rank)


def test_trained_weights_and_errors_are_those_of_one_process(told):
    trained = [f for f in told["exactness"] if f["case"]["trains"]]
    assert {f["case"]["reduction"] for f in trained} == {"overlapped", "sharded", "ddp"}
    for facts in trained:
        differences, (found, expected) = facts["states"], facts["errors"]
        assert differences.keys() == {"weight", "average", "exp_avg", "exp_avg_sq", "step"}
        limit = AFTER_STEPS[facts["case"]["dtype"]]
        assert max(differences.values()) < limit, (of_case(facts), differences)
        assert found.keys() == expected.keys()
        for head, errors in expected.items():
            assert found[head] == pytest.approx(errors, rel=limit), of_case(facts)


def test_a_run_goes_on_in_pieces_or_whole(told):
    """In 2 x 2 pieces on 4 ranks, whole on 3, in 2 pieces on 2; published at each."""
    assert [(f["n_ranks"], f["step"]) for f in told["moved"]] == [(4, 2), (3, 4), (2, 6)]
    for facts in told["moved"]:
        assert facts["states"].keys() == {"weight", "average", "exp_avg", "exp_avg_sq", "step"}
        assert max(facts["states"].values()) < AFTER_STEPS["float64"], facts
        assert len(facts["checkpoint"]) == 9
        assert max(facts["checkpoint"].values()) < AFTER_STEPS["float64"], facts


def test_replicas_are_equal_bit_by_bit(told):
    assert all(f["replicas_equal"] for f in told["exactness"])


def test_a_rank_holds_the_backbone_or_its_share_and_the_heads_it_owns(told):
    """P_s + k P_h, or P_s / S + k P_h, to the last number."""
    of_backbone = told["traffic"][0]["parameters"][0]["backbone"]
    for facts in told["traffic"]:
        case = facts["case"]
        n_pieces = 1
        if case["reduction"] == "sharded":
            n_pieces = case["shard_ranks"] or facts["n_ranks"]
        for rank, held in enumerate(facts["parameters"]):
            heads = {f"heads.{h}" for h, ranks in facts["owners"].items() if rank in ranks}
            assert held.keys() == {"backbone", *heads}
            assert held["backbone"] * n_pieces == of_backbone, of_case(facts)


def test_bytes_that_the_kernel_counted_are_those_of_the_ring(told):
    assert len(told["traffic"]) == 13
    for facts in told["traffic"]:
        for rank, counted in enumerate(facts["counted"]):
            assert counted == pytest.approx(ring_bytes(facts, rank), rel=0.05), of_case(facts)
            assert counted == pytest.approx(facts["by_engine"][rank], rel=0.05), of_case(facts)


def ring_bytes(facts: dict[str, Any], rank: int) -> float:
    """2 (n - 1) / n of a weight that n ranks have; half of it to gather, half to sum a piece."""
    n, owners, case = facts["n_ranks"], facts["owners"], facts["case"]
    sizes = {part: 8 * count for held in facts["parameters"] for part, count in held.items()}
    heads = sum(
        2 * (len(ranks) - 1) / len(ranks) * sizes[f"heads.{name}"]
        for name, ranks in owners.items()
        if rank in ranks
    )
    pieces = (case["shard_ranks"] or n) if case["reduction"] == "sharded" else 1
    within = 2 * (pieces - 1) / pieces * sizes["backbone"] * pieces
    repeated = n // pieces
    return heads + within + 2 * (repeated - 1) / repeated * sizes["backbone"]


def test_messages_go_while_the_backward_pass_goes_on(told):
    for facts in told["order"]:
        for heads, messages in zip(facts["heads_with_work"], facts["messages"], strict=True):
            if heads:
                early = [part for part, _, going_on in messages if going_on]
                assert early.count("backbone") >= 5
                assert heads[-1] in early
    assert len(told["order"]) == 2


def test_messages_have_one_order_on_all_ranks(told):
    """Whatever two ranks have in common they send in the same order, work or no work."""
    for facts in told["order"]:
        sent = [[(part, number) for part, number, _ in m] for m in facts["messages"]]
        for one, other in combinations(sent, 2):
            common = set(one) & set(other)
            assert [m for m in one if m in common] == [m for m in other if m in common]
            assert {part for part, _ in common} >= {"backbone"}
