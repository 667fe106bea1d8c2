from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gfm_pretrain.config import RunConfig
from gfm_pretrain.configuration import read_configuration
from gfm_pretrain.head_options import HeadOptions
from gfm_pretrain.process import World
from gfm_pretrain.run_folder import RunFolder, open_run
from gfm_pretrain.training_options import TrainingOptions

WORLD = World(
    rank=0, size=1, local_rank=0, local_size=1, launcher="single", device=torch.device("cpu")
)
FILES = ["config.yaml", "lock"]


@pytest.fixture
def config(tmp_path) -> RunConfig:
    head = HeadOptions(train="a.extxyz", level_of_theory="PBE", reference_energies={"No": -1e-5})
    return RunConfig(
        run=str(tmp_path / "deep" / "run"),
        heads={"No": head, "2": head},
        training=TrainingOptions(steps=10, final_learning_rate=1e-7),
    )


def open_and_leave(config: RunConfig) -> Path:
    with open_run(config, WORLD) as run:
        return run.path


def begin(config: RunConfig) -> Path:
    """As if training had begun, and nothing was kept."""
    run = open_and_leave(config)
    (run / "metrics.jsonl").write_text("{}\n")
    return run


@contextmanager
def refused(said: str) -> Iterator[None]:
    with pytest.raises(ValueError, match=said) as error:
        yield
    assert "\n" not in str(error.value)


def test_a_new_run_gets_a_folder_with_its_configuration(config):
    with open_run(config, WORLD) as run:
        assert sorted(path.name for path in run.path.iterdir()) == FILES
        assert run.continuation is None
        assert not run.remarks
    assert read_configuration(RunConfig, run.path / "config.yaml") == config


def test_an_empty_folder_is_taken(config, tmp_path):
    (tmp_path / "deep" / "run").mkdir(parents=True)
    assert open_and_leave(config).is_dir()


def test_a_folder_of_a_run_that_was_killed_at_once_is_taken(config):
    run = Path(config.run)
    run.mkdir(parents=True)
    for name in ("lock", "config.yaml.unfinished"):
        (run / name).touch()
    open_and_leave(config)
    assert sorted(path.name for path in run.iterdir()) == FILES


def test_the_same_run_is_begun_again(config):
    assert begin(config) == open_and_leave(config)


def test_a_run_may_move_and_be_prolonged(config, tmp_path):
    begin(config).rename(tmp_path / "moved")
    longer = TrainingOptions(steps=20, learning_rate=1e-4, placement="whole-ranks")
    config = replace(config, run=str(tmp_path / "moved"), device="cpu", training=longer)
    run = open_and_leave(config)
    assert read_configuration(RunConfig, run / "config.yaml").training.steps == 20


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 5}, r"settings \(seed 0 → 5\)"),
        ({"dtype": "float64", "seed": 5}, r"\(seed 0 → 5; dtype float32 → float64\)"),
        ({"heads": {"2": {"width": 3}}}, r"\(heads.2.width 64 → 3; heads No\)"),
    ],
)
def test_another_run_is_not_begun_over_one_without_snapshots(config, changes, named):
    begin(config)
    if "heads" in changes:
        heads = {name: replace(config.heads[name], **c) for name, c in changes["heads"].items()}
        changes = {"heads": heads}
    with refused(f"{named} and no snapshot yet; choose another folder with run=FOLDER"):
        open_and_leave(replace(config, **changes))


def test_settings_may_change_while_nothing_was_computed(config):
    open_and_leave(config)
    run = open_and_leave(replace(config, seed=5))
    assert read_configuration(RunConfig, run / "config.yaml").seed == 5


def test_a_folder_with_other_things_is_left_alone(config, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").touch()
    with refused("exists and holds no run; choose another folder"):
        open_and_leave(replace(config, run=str(other)))
    assert [path.name for path in other.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_folder(config, tmp_path):
    (tmp_path / "file").touch()
    with refused("exists and holds no run"):
        open_and_leave(replace(config, run=str(tmp_path / "file")))


def test_a_folder_that_cannot_be_made_says_why(config, tmp_path):
    (tmp_path / "file").touch()
    with refused(r"cannot write the folder .*file/run: Not a directory"):
        open_and_leave(replace(config, run=str(tmp_path / "file" / "run")))


def test_a_killed_write_leaves_the_old_configuration(config, monkeypatch):
    run = begin(config)
    monkeypatch.setattr(
        "pathlib.Path.replace", lambda *args: (_ for _ in ()).throw(OSError(5, "x"))
    )
    with refused("cannot write the folder of the run"):
        open_and_leave(replace(config, device="cpu"))
    assert read_configuration(RunConfig, run / "config.yaml") == config


def test_two_runs_at_once_are_refused(config):
    with open_run(config, WORLD) as first:
        assert isinstance(first, RunFolder)
        with refused(r"deep/run is in use by process \d+ on .* since .*; wait until it has ended"):
            open_and_leave(config)
    open_and_leave(config)
