"""The plan against what ranks of real runs count."""

import json
from pathlib import Path

import numpy as np
import pytest
from gfm_pretrain.config import RunConfig
from gfm_pretrain.configuration import read_configuration
from gfm_pretrain.plan.dealing import deal_steps
from gfm_pretrain.plan.memory import KEPT, KEPT_IF_TRAINED, parameters_held, state_bytes
from gfm_pretrain.plan.strategy import STRATEGIES
from gfm_pretrain.plan.traffic import bytes_sent
from gfm_pretrain.plan.workload import read_workload
from launch import launch
from tiny_run import write_run

PROGRAM = Path(__file__).parents[1] / "programs" / "plan_program.py"
N_RANKS = 4
PLACEMENTS = ("wrap-around", "whole-ranks")


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("plan-of-run"))


@pytest.fixture(scope="module")
def counted(run_file: Path) -> dict:
    result = launch(PROGRAM, str(run_file), n_ranks=N_RANKS, timeout_seconds=300)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def workload(run_file: Path):
    return read_workload(read_configuration(RunConfig, run_file))


@pytest.mark.mpi
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_owners_and_parameters_are_as_planned(counted, workload, placement) -> None:
    owners = workload.place(N_RANKS, method=placement)
    found = counted[placement]
    assert {name: tuple(ranks) for name, ranks in found["owners"].items()} == owners
    planned = parameters_held(workload, owners, n_ranks=N_RANKS)
    assert [rank["parameters"] for rank in found["ranks"]] == planned.tolist()


@pytest.mark.mpi
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_memory_of_the_state_is_as_planned_to_the_byte(counted, workload, placement) -> None:
    owners = workload.place(N_RANKS, method=placement)
    planned = state_bytes(workload, owners, n_ranks=N_RANKS)
    for rank, n_bytes in zip(counted[placement]["ranks"], planned, strict=True):
        assert sum(rank["bytes"].values()) == n_bytes
        for name, numbers in {**KEPT, **KEPT_IF_TRAINED}.items():
            assert rank["bytes"][name] == numbers * rank["parameters"] * workload.dtype.itemsize


@pytest.mark.mpi
def test_memory_of_a_sharded_backbone_is_as_planned(counted, workload) -> None:
    owners = workload.place(N_RANKS, method="wrap-around")
    planned = state_bytes(workload, owners, n_ranks=N_RANKS, n_shards=2, in_step=False)
    held = [sum(rank["bytes"].values()) for rank in counted["sharded"]["ranks"]]
    np.testing.assert_allclose(held, planned, rtol=0.05)  # odd lengths are not halved


@pytest.mark.mpi
@pytest.mark.parametrize("name", STRATEGIES)
def test_bytes_of_a_step_are_as_planned(counted, workload, name) -> None:
    strategy = STRATEGIES[name]
    n_shards = strategy.n_shards(N_RANKS, 2)
    owners = strategy.owners(workload, N_RANKS)
    planned = bytes_sent(workload, owners, n_ranks=N_RANKS, n_shards=n_shards)
    sent = [rank["sent"] for rank in counted[name]["ranks"]]
    # Each bucket is rounded to a byte; pieces are padded to one length.
    np.testing.assert_allclose(sent, planned, rtol=0.05 if n_shards > 1 else 1e-3)


@pytest.mark.mpi
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_ranks_get_the_structures_and_passes_that_were_planned(
    counted, workload, placement
) -> None:
    owners = workload.place(N_RANKS, method=placement)
    steps = deal_steps(workload, owners, n_ranks=N_RANKS, n_steps=3)
    for number, dealt in enumerate(steps):
        ranks = counted[placement]["ranks"]
        structures = [rank["structures"][number] for rank in ranks]
        assert structures == dealt.n_structures.sum(0).tolist()
        for place, rank in enumerate(ranks):
            of_heads = [rank["passes"][number].count(head) for head in owners]
            assert of_heads == dealt.n_passes[:, place].tolist()
        np.testing.assert_allclose(ranks[0]["costs"][number], dealt.load, rtol=1e-12)
