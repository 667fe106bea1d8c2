"""Runs in which something goes wrong: how they end, what is said, and that they can be continued.

The ranks are started by programs/fault_program.py, which does nothing to end those that are left.
"""

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from launch import BIN, launch
from programs.fault_program import SCENARIOS, slug
from tiny_run import run_mapping, write_head, write_yaml

PROGRAM = Path(__file__).parent / "programs" / "fault_program.py"
HEADS = ("rmd17", "mlearn")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
MOST_SECONDS = 100
"""Far more than any of them takes by itself, far less than the time limit of a message."""

pytestmark = pytest.mark.mpi


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of one start of the command."""

    seconds: float
    statuses: dict[str, int | None]
    said: dict[str, str]

    @property
    def all_said(self) -> str:
        return "".join(self.said.values())

    @property
    def errors(self) -> list[str]:
        """The lines that say why the run ended."""
        return [line for line in self.all_said.splitlines() if line.startswith(ERROR)]


ERROR = "gfm-pretrain: error"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Holds all runs, once all of them are over."""
    folder = tmp_path_factory.mktemp("faults")
    for name in HEADS:
        write_head(folder, name)
    mapping = run_mapping(folder)
    mapping["heads"] = {name: mapping["heads"][name] for name in HEADS}
    mapping["heads"]["mlearn"]["batch_size"] = 3
    mapping["snapshots"] = {"every_steps": 2}
    config = write_yaml(folder / "run.yaml", mapping)
    result = launch(
        *(PROGRAM, str(config), str(folder)),
        launcher="alone",
        environ=ONE_THREAD,
        timeout_seconds=900,
    )
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def outcomes(folder) -> Callable[[str], list[Outcome]]:
    """Of the runs of a scenario, one after the other."""

    def of_scenario(name: str) -> list[Outcome]:
        told = json.loads((folder / f"{slug(name)}.json").read_text())
        return [Outcome(**outcome) for outcome in told]

    return of_scenario


@pytest.fixture(scope="module")
def weights(folder) -> Callable[[str], dict[str, bytes]]:
    """The published weights of a scenario's run."""

    def of_scenario(name: str) -> dict[str, bytes]:
        checkpoint = folder / slug(name) / "checkpoint"
        return {
            str(f.relative_to(checkpoint)): f.read_bytes() for f in checkpoint.rglob("*.safet*")
        }

    return of_scenario


def names(kind: str) -> list[str]:
    return [name for name in SCENARIOS if name.startswith(f"{kind}: ")]


CONTINUED = (*names("kill"), "disk full", "replicas", *names("stop"))


@pytest.mark.parametrize("name", SCENARIOS)
def test_all_ranks_end_within_seconds(outcomes, name):
    for run, outcome in zip(SCENARIOS[name], outcomes(name), strict=True):
        ended = {rank: s for rank, s in outcome.statuses.items() if rank != str(run.stopped)}
        assert None not in ended.values()
        assert outcome.seconds < MOST_SECONDS


@pytest.mark.parametrize("name", [n for n in CONTINUED if len(SCENARIOS[n]) > 1])
def test_what_is_continued_ends_as_if_nothing_had_happened(outcomes, weights, name):
    last = outcomes(name)[-1]
    assert set(last.statuses.values()) == {0}, last.all_said
    assert last.errors == []
    assert len(weights(name)) == 1 + len(HEADS)
    assert weights(name) == weights("straight")


@pytest.mark.parametrize("name", names("kill"))
def test_a_lost_rank_is_named_once(outcomes, name):
    for outcome in outcomes(name):
        lost = [rank for rank, status in outcome.statuses.items() if status == -9]
        if not lost:  # it was through before
            assert set(outcome.statuses.values()) == {0}
            continue
        assert set(outcome.statuses.values()) == {-9, 1}
        (error,) = outcome.errors
        if "set-up" not in name and " s" not in name:
            assert error.startswith(
                f"{ERROR}: lost rank {lost[0]} of {len(outcome.statuses)} (host "
            )
            assert re.search(r"\), last seen (after step \d|in set-up), in ", error)


@pytest.mark.parametrize(
    ("name", "rank", "reason"),
    [
        ("raise: forward", 1, "RuntimeError: boom"),
        ("raise: rank 0", 0, "RuntimeError: boom"),
        ("raise: memory", 1, "MemoryError: no memory left"),
        ("raise: thread", 1, "RuntimeError: boom in a thread"),
        ("raise: validation", 1, "ValueError: a wrong label"),
        ("raise: snapshot", 0, "RuntimeError: boom"),
    ],
)
def test_an_error_of_one_rank_ends_all_and_is_said_once(outcomes, name, rank, reason):
    (outcome,) = outcomes(name)
    assert 0 not in outcome.statuses.values()
    assert outcome.errors == [f"{ERROR} on rank {rank} of 2: {reason}"]


@pytest.mark.parametrize(
    ("name", "rank", "n_ranks"),
    [("hang: deadlock", 1, 3), ("hang: deadlock of rank 0", 0, 2)],
)
def test_a_rank_that_hangs_is_named_and_shows_where(outcomes, name, rank, n_ranks):
    (outcome,) = outcomes(name)
    (error,) = outcome.errors
    assert error.startswith(f"{ERROR}: rank {rank} of {n_ranks} (host ")
    assert " hangs after step 3, in forward of " in error
    assert outcome.all_said.count("(most recent call last):") == 1
    stack = outcome.said[str(rank)].partition(f"Where rank {rank} of {n_ranks} is")[2]
    assert "in deadlocked" in stack
    assert "_train" in stack


@pytest.mark.parametrize(("name", "rank"), [("hang: stop", 1), ("hang: stop of rank 0", 0)])
def test_a_rank_that_does_not_answer_is_named(outcomes, name, rank):
    (outcome,) = outcomes(name)
    (error,) = outcome.errors
    assert error.startswith(f"{ERROR}: rank {rank} of 3 (host ")
    assert " does not answer: nothing was heard of it for " in error


def test_a_rank_that_lets_no_thread_run_shows_where_all_the_same(outcomes):
    (outcome,) = outcomes("hang: deaf")
    (error,) = outcome.errors
    assert error.startswith(f"{ERROR}: rank 1 of 2 (host ")
    assert " does not answer: " in error
    assert "in deaf" in outcome.said["1"]


def test_ranks_that_wait_for_one_another_show_where(outcomes):
    (outcome,) = outcomes("hang: each other")
    (error,) = outcome.errors
    assert error.startswith(f"{ERROR}: all ranks have waited for one another for ")
    assert "(rank 0 in the sum of gradients, rank 1 in a message)" in error
    assert "in wait_for_nobody" in outcome.said["1"]
    assert "Where rank 0 of 2 is" in outcome.said["0"]


@pytest.mark.parametrize("name", ["slow", "slow set-up"])
def test_what_takes_long_and_moves_is_let_alone(outcomes, weights, name):
    (outcome,) = outcomes(name)
    assert outcome.seconds > 12
    assert set(outcome.statuses.values()) == {0}, outcome.all_said
    assert weights(name) == weights("straight")


@pytest.mark.parametrize(
    ("name", "signal", "step"),
    [
        ("stop: one rank", "SIGUSR1", 4),
        ("stop: all ranks", "SIGTERM", 4),
        ("stop: validation", "SIGUSR1", 3),
        ("stop: last step", "SIGINT", 6),
    ],
)
def test_a_signal_stops_all_ranks_after_the_same_step(outcomes, folder, name, signal, step):
    stopped, continued = outcomes(name)
    assert set(stopped.statuses.values()) == {0}
    assert stopped.errors == []
    said = f"stopped by {signal} after step {step} of 6, which is saved; the same command continues"
    assert stopped.all_said.count(said) == 1
    assert f"gfm-pretrain {folder / 'run.yaml'} run={folder / slug(name)}" in stopped.all_said
    assert f"continuing from step {step} (" in continued.all_said


@pytest.mark.parametrize(
    ("launcher", "number", "status"),
    [("mpiexec", signal.SIGUSR1, 0), ("torchrun", signal.SIGTERM, None)],
)
def test_a_signal_to_the_launcher_stops_all_ranks(folder, launcher, number, status):
    """Open MPI hands on SIGUSR1; torchrun SIGTERM, and itself ends with a status of its own."""
    run = folder / launcher

    def signal_once_training(process: subprocess.Popen[str]) -> None:
        end = time.monotonic() + 200
        while time.monotonic() < end and not is_training(run):
            time.sleep(0.1)
        process.send_signal(number)

    result = launch(
        BIN / "gfm-pretrain",
        *(str(folder / "run.yaml"), f"run={run}", "training.steps=100000"),
        n_ranks=2,
        launcher=launcher,
        timeout_seconds=300,
        meanwhile=signal_once_training,
    )
    assert status in (None, result.returncode), result.stderr
    (step,) = re.findall(rf"stopped by {number.name} after step (\d+) of 100000,", result.stderr)
    assert (run / "snapshots" / f"step-{int(step):08d}").is_dir()
    assert "gfm-pretrain: error" not in result.stderr


def is_training(run: Path) -> bool:
    metrics = run / "metrics.jsonl"
    return metrics.exists() and re.search('"kind": ?"train"', metrics.read_text()) is not None


def test_a_signal_while_a_snapshot_is_written_stops_after_a_later_step(outcomes):
    stopped, continued = outcomes("stop: snapshot")
    assert set(stopped.statuses.values()) == {0}
    assert stopped.all_said.count("stopped by SIGTERM after step ") == 1
    assert "continuing from step " in continued.all_said


def test_a_signal_in_set_up_stops_before_the_first_step(outcomes):
    stopped, continued = outcomes("stop: set-up")
    assert set(stopped.statuses.values()) == {0}
    assert stopped.all_said.count("stopped by SIGUSR1 before the first step; ") == 1
    assert "continuing" not in continued.all_said


def test_ctrl_c_twice_stops_at_once(outcomes):
    (outcome,) = outcomes("stop: at once")
    assert outcome.statuses["0"] == 130
    assert outcome.errors == [f"{ERROR} on rank 0 of 2: interrupted"]


def test_a_flipped_bit_is_found_at_the_next_snapshot(outcomes):
    found, continued = outcomes("replicas")
    (error,) = found.errors
    assert set(found.statuses.values()) == {2}
    assert "ReplicaError: ranks 0, 1 should hold the same backbone at step 4, but weight/" in error
    assert "continuing from step 2 (" in continued.all_said


def test_all_ranks_skip_a_step_that_one_finds_not_finite(outcomes, folder):
    (outcome,) = outcomes("not finite")
    assert set(outcome.statuses.values()) == {0}, outcome.all_said
    assert outcome.all_said.count("step 4 skipped: the loss of mlearn was not finite (str") == 1
    (line,) = (folder / slug("not finite") / "skipped.jsonl").read_text().splitlines()
    skipped = json.loads(line)
    assert skipped["step"] == 4
    assert {s["head"] for s in skipped["structures"]} == {"mlearn"}
    assert {s["rank"] for s in skipped["structures"]} == {0, 1}


def test_a_read_only_folder_is_said_before_anything_is_computed(outcomes):
    (outcome,) = outcomes("read-only")
    assert set(outcome.statuses.values()) == {2}
    (error,) = outcome.errors
    assert "ValueError: cannot write the folder of the run, " in error
    assert error.endswith(": Permission denied")
    assert "structures" not in outcome.all_said


def test_a_full_disk_is_said_and_leaves_what_was_saved(outcomes):
    full, continued = outcomes("disk full")
    assert set(full.statuses.values()) == {2}
    (error,) = full.errors
    assert " could not be written on rank 0 of 2: cannot write " in error
    assert full.all_said.count("metrics.jsonl: File too large; training goes on") == 1
    assert "continuing from step 2 (" in continued.all_said
