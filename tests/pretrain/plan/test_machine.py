from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml
from gfm_pretrain.configuration import to_mapping
from gfm_pretrain.plan.machine import CASES, NUMBERS, Machine, machine_names, read_machine
from gfm_pretrain.plan.network import all_reduce_seconds


@pytest.mark.parametrize("name", ["aurora", "frontier", "perlmutter"])
def test_machines_of_this_package(name) -> None:
    machine = read_machine(name)
    assert machine.name.lower() == name
    assert name in machine_names()
    for number in NUMBERS:
        source = machine.sources[number]
        assert source.startswith("assumption") or "(" in source or "," in source
    assert {f.name for f in fields(Machine)} >= set(NUMBERS)


def test_facts_of_the_machines() -> None:
    facts = {
        n: (m.ranks_per_node, m.memory_gib) for n in machine_names() for m in [read_machine(n)]
    }
    assert facts == {"aurora": (12, 64), "frontier": (8, 64), "perlmutter": (4, 40)}
    share = {"frontier": 12.5, "perlmutter": 25.0, "aurora": 200 / 12}
    for name, most in share.items():
        assert max(read_machine(name).bandwidth_between_gb) < most


@pytest.mark.parametrize("name", ["aurora", "frontier", "perlmutter"])
def test_cases_are_in_order(name) -> None:
    machine = read_machine(name)
    for n_ranks in (2, 8, 1280, 40_000):
        for n_bytes in (1e3, 1e8):
            slow, likely, fast = (
                all_reduce_seconds(machine.hardware(case).network, n_bytes, n_ranks)
                for case in CASES
            )
            assert slow > likely > fast > 0


def test_a_machine_of_ones_own(tmp_path: Path) -> None:
    mine = replace(read_machine("frontier"), name="Mine", ranks_per_node=2)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(to_mapping(mine), allow_unicode=True))
    assert read_machine(str(path)) == mine


def test_a_cost_that_was_measured_on_the_device() -> None:
    machine = read_machine("aurora").as_measured()
    assert {machine.hardware(case).rate for case in CASES} == {1.0}
    assert {machine.hardware(case).pass_rate for case in CASES} == {1.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": [200, 56, 16]}, "rate must be positive, from slow to fast"),
        ({"call_us": [1, 2, 3]}, "call_us must be positive, from slow to fast"),
        ({"memory_gib": -1}, r"memory_gib must be positive.*got \[-1"),
        ({"sources": {}}, "sources.ranks_per_node is missing"),
        ({"algorithms": {"slow": ["ring"]}}, "algorithms must name some for each"),
        ({"algorithms": {"slow": ["rings"]}}, "'algorithms.slow.0' must be 'ring', 'tree' or"),
        ({"rate": [1, 2]}, "rate"),
        ({"ratee": 1}, "unknown key 'ratee'; did you mean 'rate'"),
    ],
)
def test_wrong_machines_are_errors(tmp_path: Path, change, message) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({**to_mapping(read_machine("frontier")), **change}))
    with pytest.raises(ValueError, match=message):
        read_machine(str(path))


def test_an_unknown_machine_lists_those_there_are() -> None:
    with pytest.raises(FileNotFoundError, match="one of aurora, frontier, perlmutter, or a file"):
        read_machine("summit")
