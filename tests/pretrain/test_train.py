"""`gfm-pretrain` from its configuration to its checkpoint, and every way it says no."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from gfm_models import checkpoint
from gfm_pretrain.cli import main
from gfm_pretrain.step_result import StepResult
from gfm_pretrain.trainer import Trainer
from launch import BIN, launch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import BATCH_SIZES, LEVELS, N_TRAIN, write_run

COMMAND = BIN / "gfm-pretrain"
WEIGHTS = ("backbone.safetensors", *(f"heads/{name}.safetensors" for name in LEVELS))
ABSURD_RATE = "training.learning_rate=1e200"
TWO_RANKS: dict[str, Any] = {"n_ranks": 2, "timeout_seconds": 300}
ELSEWHERE = ("monitor.tensorboard=true", "monitor.wandb={project: tiny, mode: offline}")
JOBS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "mpiexec": (ELSEWHERE, TWO_RANKS),
    "torchrun": ((), {**TWO_RANKS, "launcher": "torchrun"}),
    "ahead": (("training.prefetch=2",), TWO_RANKS),
    "unjudged": (("training.steps=1", "training.cost_of_atom=measure"), TWO_RANKS),
    "misspelt": (("training.learningrate=1",), TWO_RANKS),
    "missing": (("heads.rmd17.train=absent.extxyz",), TWO_RANKS),
    "absurd": ((ABSURD_RATE,), TWO_RANKS),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("train")


@pytest.fixture(scope="module")
def config_file(folder) -> Path:
    return write_run(folder)


@pytest.fixture(scope="module")
def unjudged_file(folder, config_file) -> Path:
    """Without data to validate or test on."""
    path = folder / "unjudged.yaml"
    path.write_text(re.sub(r"\n +valid: .*", "", config_file.read_text()))
    return path


@pytest.fixture(scope="module")
def jobs(folder, config_file, unjudged_file) -> Iterator[Callable[[str], tuple[int, str, Path]]]:
    """Status, output and folder of a launched run; all start when the first is asked for."""

    def start(name: str):
        overrides, options = JOBS[name]
        path = unjudged_file if name == "unjudged" else config_file
        run = f"run={folder / name}"
        result = launch(COMMAND, str(path), run, *overrides, **options)
        return result.returncode, result.stdout + result.stderr, folder / name

    with ThreadPoolExecutor(2) as pool:
        futures = {name: pool.submit(start, name) for name in JOBS}
        yield lambda name: futures[name].result()


@pytest.fixture(scope="module")
def alone(folder, config_file) -> Path:
    assert main([str(config_file), f"run={folder / 'alone'}"]) == 0
    return folder / "alone"


@pytest.fixture
def run_of(alone, tmp_path) -> Path:
    """A copy of the finished run."""
    return shutil.copytree(alone, tmp_path / "run")


def lines_of(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line, parse_constant=_refuse) for line in lines]


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def computed(run: Path) -> list[dict[str, Any]]:
    """What does not depend on the machine: losses and errors."""
    lines = [line for line in lines_of(run) if line["kind"] in ("before", "train", "valid", "test")]
    return [{key: v for key, v in line.items() if key != "seconds"} for line in lines]


def numbers(value: Any) -> list[float]:
    """All numbers of nested dictionaries and lists, in the order of keys."""
    if isinstance(value, dict):
        return [n for key in sorted(value) for n in numbers(value[key])]
    if isinstance(value, list):
        return [n for item in value for n in numbers(item)]
    return [value] if isinstance(value, float) else []


def weights_of(run: Path) -> list[bytes]:
    return [(run / "checkpoint" / name).read_bytes() for name in WEIGHTS]


def check_run(run: Path) -> None:
    potential = checkpoint.load(run / "checkpoint")
    assert potential.head_names == tuple(LEVELS)
    kinds = [(line["kind"], line["step"]) for line in computed(run)]
    assert kinds == [
        *[("before", 0), ("train", 1), ("train", 2), ("train", 3), ("valid", 3)],
        *[("train", 4), ("train", 5), ("train", 6), ("valid", 6)],
    ]
    log = (run / "log.txt").read_text()
    assert "step 6/6" in log
    assert f"checkpoint: {run / 'checkpoint'}" in log
    assert not list(run.glob("**/*.unfinished"))


def test_alone(alone):
    check_run(alone)
    lines = computed(alone)
    assert set(lines[1]["losses"]) == set(LEVELS)
    assert set(lines[0]["heads"]) == set(LEVELS)
    training = json.loads((alone / "checkpoint" / "training.json").read_text())
    assert training["steps"] == 6
    assert training["heads"]["mlearn"]["n_train"] == 4
    assert training["heads"]["mlearn"]["valid"] == lines[-1]["heads"]["mlearn"]


@pytest.mark.mpi
@pytest.mark.parametrize("launcher", ["mpiexec", "torchrun"])
def test_two_ranks_do_what_one_does(launcher, jobs, alone):
    status, output, run = jobs(launcher)
    assert status == 0, output
    check_run(run)
    found, expected = (computed(r) for r in (run, alone))
    assert json.dumps(found).count(":") == json.dumps(expected).count(":")
    assert numbers(found) == pytest.approx(numbers(expected), rel=1e-9)
    assert output.count("step 6/6") == 1


@pytest.mark.mpi
def test_rates_time_and_memory_are_told_of_all_ranks(jobs):
    _, output, run = jobs("mpiexec")
    (start,) = (line for line in lines_of(run) if line["kind"] == "run")
    assert (start["ranks"], start["launcher"], start["device"]) == (2, "mpi", "cpu")
    assert start["settings"]["training"]["clip_norm"] == 0.05
    assert start["heads"]["mlearn"]["structures"] == 4
    rates = [line for line in lines_of(run) if line["kind"] == "rates"][-1]
    per_second = rates["window"]["steps"] / rates["window"]["seconds"]
    for name in LEVELS:
        of_head = rates["heads"][name]
        assert of_head["structures"] == pytest.approx(BATCH_SIZES[name] * per_second)
        assert of_head["edges"] > of_head["atoms"] > of_head["structures"]
        assert of_head["epochs"] == pytest.approx(6 * BATCH_SIZES[name] / N_TRAIN[name])
    assert rates["per_second"]["structures"] == pytest.approx(12 * per_second)
    assert sum(rates["time_mean"].values()) == pytest.approx(1.0)
    for activity, mean in rates["time_mean"].items():
        assert rates["time_max"][activity]["part"] >= 0.98 * mean - 0.02
        assert rates["time_max"][activity]["rank"] in (0, 1)
    assert all(rates["time_mean"][name] > 0 for name in ("data", "forward", "backward", "update"))
    assert 5e7 < rates["memory_max"]["resident"]["bytes"] < 1e11
    assert 0 < rates["balance"] <= 1
    assert rates["bytes_per_step"] > 0
    assert rates["seconds_left"] == 0.0
    events = [line["event"] for line in lines_of(run) if line["kind"] == "event"]
    assert events == ["snapshot", "snapshot", "finished"]
    assert "step 6/6, 0:00 left, " in output


@pytest.mark.mpi
def test_a_run_is_followed_elsewhere_too(jobs):
    _, output, run = jobs("mpiexec")
    accumulator = EventAccumulator(str(run / "tensorboard"))
    accumulator.Reload()
    shown = {event.step: event.value for event in accumulator.Scalars("train/losses/rmd17")}
    losses = {r["step"]: r["losses"]["rmd17"] for r in lines_of(run) if r["kind"] == "train"}
    assert shown == pytest.approx(losses, rel=1e-6)
    assert "valid/mlearn/stress_mae" in accumulator.Tags()["scalars"]
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    start = next(line for line in lines_of(run) if line["kind"] == "run")
    assert file.name == f"run-{start['id']}.wandb"
    content = file.read_bytes()
    for name in (b"train/losses/rmd17", b"rates/per_second/atoms", b"valid/mlearn/stress_mae"):
        assert name in content
    assert "wandb" not in output
    assert "gets no more of this run" not in output


@pytest.mark.mpi
def test_batches_made_ahead_give_the_same_bit_by_bit(jobs):
    (status, output, run), (_, _, other) = jobs("ahead"), jobs("mpiexec")
    assert status == 0, output
    assert weights_of(run) == weights_of(other)


@pytest.mark.mpi
def test_the_cost_of_a_step_is_measured_and_kept(jobs):
    _, output, run = jobs("unjudged")
    kept = json.loads((run / "cost.json").read_text())
    (cost,) = (line["cost"] for line in lines_of(run) if line["kind"] == "run")
    assert cost["measured"] == {key: value for key, value in kept.items() if key != "sha256"}
    assert 0.25 <= cost["used"]["of_atom"] <= 64
    assert cost["used"]["of_pass"] == 0.0  # as the configuration says
    assert "passes timed, median residual" in output
    assert not (jobs("mpiexec")[2] / "cost.json").exists()


@pytest.mark.mpi
def test_a_run_may_have_no_data_to_judge_it(jobs):
    status, output, run = jobs("unjudged")
    assert status == 0, output
    assert checkpoint.load(run / "checkpoint").head_names == tuple(LEVELS)


def test_running_a_finished_run_again_does_no_harm(run_of, config_file):
    weights, before = weights_of(run_of), computed(run_of)
    assert main([str(config_file), f"run={run_of}"]) == 0
    assert weights_of(run_of) == weights
    checkpoint.verify(run_of / "checkpoint")
    assert computed(run_of) == before


class KilledError(Exception):
    pass


@pytest.fixture
def interrupted(tmp_path, config_file, monkeypatch) -> Path:
    """A run of six steps with a snapshot every two that ended in the sixth."""
    train_step = Trainer.train_step

    def killed(trainer: Trainer) -> StepResult:
        if trainer.step == 5:
            raise KilledError
        return train_step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", killed)
        overrides = (f"run={tmp_path / 'run'}", "snapshots.every_steps=2")
        assert main([str(config_file), *overrides]) == 1
    return tmp_path / "run"


def finish(run: Path, config_file: Path) -> str:
    assert main([str(config_file), f"run={run}"]) == 0
    return (run / "log.txt").read_text()


def test_an_interrupted_run_goes_on(interrupted, config_file, alone):
    assert "continuing from step 4 (" in finish(interrupted, config_file)
    assert weights_of(interrupted) == weights_of(alone)
    assert computed(interrupted) == computed(alone)
    undone = (interrupted / "metrics-undone.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in undone if '"train"' in line] == [5]
    starts = [line["step"] for line in lines_of(interrupted) if line["kind"] == "run"]
    assert starts == [0, 4]
    before, judged = ("valid_before", "valid")
    for of_run in (interrupted, alone):
        heads = json.loads((of_run / "checkpoint" / "training.json").read_text())["heads"]
        assert heads["rmd17"][before]["forces_mae"] != heads["rmd17"][judged]["forces_mae"]


def test_a_damaged_snapshot_costs_some_steps_only(interrupted, config_file, alone):
    damaged = interrupted / "snapshots" / "step-00000004" / "heads" / "wb97x.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    assert "continuing from step 2 (" in finish(interrupted, config_file)
    assert weights_of(interrupted) == weights_of(alone)


def test_a_write_that_was_killed_is_ignored(interrupted, config_file, alone):
    snapshots = interrupted / "snapshots"
    shutil.copytree(snapshots / "step-00000004", snapshots / "step-00000005.unfinished")
    (interrupted / "checkpoint.unfinished").mkdir()
    assert "continuing from step 4 (" in finish(interrupted, config_file)
    assert weights_of(interrupted) == weights_of(alone)


def error_of(capfd, config_file: Path, *overrides: str) -> str:
    """What a run that fails says last; nothing but one line is an error."""
    capfd.readouterr()
    assert main([str(config_file), *overrides]) == 2
    captured = capfd.readouterr()
    lines = captured.err.splitlines()
    assert "Traceback" not in captured.err
    assert [line for line in lines if line.startswith("gfm-pretrain: error: ")] == lines[-1:]
    return lines[-1]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.learningrate=1", "learning_rate"),
        ("heads.rmd17.train=absent.extxyz", "FileNotFoundError: no such file: absent.extxyz"),
        (
            "heads.rmd17.labels=[energy, forces, stress]",
            "head 'rmd17': no structure in .* 'stress'",
        ),
        ("heads.rmd17.reference_energies={H: -13}", "head 'rmd17': .* are missing for C, O; add"),
        ("model.channels=0", r"model\.channels must lie in 1 to 4096, got 0"),
        ("device=xpu", "device=xpu but torch"),
    ],
)
def test_a_mistake_is_one_line(capfd, config_file, tmp_path, override, said):
    assert re.search(said, error_of(capfd, config_file, override, f"run={tmp_path / 'run'}"))


def test_a_missing_configuration_is_one_line(capfd, tmp_path):
    assert "absent.yaml" in error_of(capfd, tmp_path / "absent.yaml")


def test_a_run_folder_that_cannot_be_made_is_one_line(capfd, config_file, tmp_path):
    (tmp_path / "file").touch()
    said = error_of(capfd, config_file, f"run={tmp_path / 'file' / 'run'}")
    assert "cannot write the folder of the run" in said


def test_another_run_in_the_folder_is_one_line(capfd, config_file, run_of):
    said = error_of(capfd, config_file, f"run={run_of}", "seed=9", "heads.mlearn.batch_size=2")
    assert (
        "cannot be continued from step 6: seed 3 → 9 (cannot change); "
        "heads.mlearn.batch_size 1 → 2 (mixture). Either say resume.accept=[mixture]"
    ) in said


def test_after_a_mistake_the_folder_can_be_used(capfd, config_file, tmp_path):
    run = f"run={tmp_path / 'run'}"
    error_of(capfd, config_file, run, "heads.rmd17.train=absent.extxyz")
    assert main([str(config_file), run, "training.steps=1"]) == 0


def test_a_run_whose_steps_are_all_skipped_ends_in_one_line(capfd, config_file, tmp_path):
    run = tmp_path / "run"
    overrides = (f"run={run}", "training.warmup_steps=0", "training.validate_every=9")
    said = error_of(capfd, config_file, *overrides, ABSURD_RATE)
    assert "TrainingError: 4 steps in a row were skipped; at step 5 the loss of " in said
    assert " was not finite (structures, the worst first: " in said
    assert f"look for absurd labels there ({run / 'skipped.jsonl'})" in said
    assert not (run / "checkpoint").exists()
    skipped = [line for line in lines_of(run) if line.get("event") == "skipped"]
    assert [line["step"] for line in skipped] == [2, 3, 4, 5]
    assert skipped[0]["troubles"][0].items() >= {"what": "loss", "value": "nan"}.items()
    named = [json.loads(line) for line in (run / "skipped.jsonl").read_text().splitlines()]
    assert [line["step"] for line in named] == [2, 3, 4, 5]
    assert {s["head"] for s in named[0]["structures"]} <= set(LEVELS)
    assert all(s["identifier"] and s["loss"] is None for s in named[0]["structures"])


def test_weights_that_the_last_step_broke_are_noticed(capfd, config_file, tmp_path):
    overrides = (f"run={tmp_path / 'run'}", "training.steps=1", "training.warmup_steps=0")
    said = error_of(capfd, config_file, *overrides, ABSURD_RATE)
    assert "the error on the valid set of " in said
    assert " is not finite at step 1; lower training.learning_rate" in said
    assert not (tmp_path / "run" / "checkpoint").exists()


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("job", "said"),
    [
        ("misspelt", r"gfm-pretrain: error: .*learning_rate"),
        ("missing", r"gfm-pretrain: error on rank 1 of 2: .*no such file: absent\.extxyz"),
        ("absurd", r"gfm-pretrain: error: TrainingError: the error on the valid set of .* is not"),
    ],
)
def test_two_ranks_say_a_mistake_once(jobs, job, said):
    status, output, _ = jobs(job)
    assert status != 0
    assert len(re.findall(said, output)) == 1
    assert output.count("gfm-pretrain: error") == 1
    assert "Traceback" not in output


def test_a_run_whose_data_have_changed_is_not_continued(capfd, config_file, folder, run_of):
    data = folder / "mlearn-valid.extxyz"
    original = data.read_text()
    data.write_text(original + original)
    try:
        said = error_of(capfd, config_file, f"run={run_of}")
    finally:
        data.write_text(original)
    assert re.search(
        r"cannot be continued from step 6: data of mlearn/valid \w{12} → \w{12} \(cannot", said
    )


def test_a_missing_training_package_is_one_line(capfd, config_file, monkeypatch):
    monkeypatch.delitem(sys.modules, "gfm_pretrain.train", raising=False)
    monkeypatch.setitem(sys.modules, "torch_ema", None)
    for module in ("trainer", "trained_weights", "publish"):
        monkeypatch.delitem(sys.modules, f"gfm_pretrain.{module}", raising=False)
    said = error_of(capfd, config_file)
    assert "training needs the package torch_ema: pip install 'gfmcalc[train]'" in said
