"""Real kills, see programs/kill_program.py."""

import json
from pathlib import Path

import pytest
from launch import launch
from programs.kill_program import N_AT_RANDOM, NEW, OLD

PROGRAM = Path(__file__).parents[1] / "programs" / "kill_program.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[tuple[str | None, int, int]]:
    folder = tmp_path_factory.mktemp("kill")
    result = launch(PROGRAM, str(folder), launcher="alone", timeout_seconds=300)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_killed_at_any_place_there_is_the_old_or_the_new_one(found):
    """That what is there verifies and is all old or all new, the program has made sure of."""
    assert {(step, best) for _, step, best in found} <= {(OLD, OLD), (NEW, OLD), (NEW, NEW)}


def test_it_was_killed_at_many_places(found):
    places = [where for where, _, _ in found if where not in (None, "at random")]
    assert len(places) > 30
    for operation in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"):
        assert any(where.startswith(f"{operation} ") for where in places), operation
    assert sum(where == "at random" for where, _, _ in found) == N_AT_RANDOM


def test_the_new_one_is_there_once_it_has_its_name(found):
    """And never the old one again."""
    steps = [step for where, step, _ in found if where != "at random"]
    assert steps == sorted(steps)
    bests = [best for where, _, best in found if where != "at random"]
    assert bests == sorted(bests)
    assert found[0][1:] == [OLD, OLD]
    assert [where for where, _, _ in found].index(None) == len(steps) - 1
    assert (steps[-1], bests[-1]) == (NEW, NEW)
