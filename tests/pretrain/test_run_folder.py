from dataclasses import replace

import pytest
import torch
from gfm_pretrain.config import HeadOptions, RunConfig, TrainingOptions
from gfm_pretrain.configuration import read_configuration
from gfm_pretrain.process import World
from gfm_pretrain.run_folder import open_run

WORLD = World(
    rank=0, size=1, local_rank=0, local_size=1, launcher="single", device=torch.device("cpu")
)


@pytest.fixture
def config(tmp_path) -> RunConfig:
    head = HeadOptions(train="a.extxyz", level_of_theory="PBE", reference_energies={"No": -1e-5})
    return RunConfig(
        run=str(tmp_path / "deep" / "run"),
        heads={"No": head, "2": head},
        training=TrainingOptions(steps=10, final_learning_rate=1e-7),
    )


def begin(config: RunConfig):
    """As if training had begun."""
    run = open_run(config, WORLD)
    (run / "metrics.jsonl").write_text("{}\n")
    return run


def test_a_new_run_gets_a_folder_with_its_configuration(config):
    run = open_run(config, WORLD)
    assert [path.name for path in run.iterdir()] == ["config.yaml"]
    assert read_configuration(RunConfig, run / "config.yaml") == config


def test_an_empty_folder_is_taken(config, tmp_path):
    (tmp_path / "deep" / "run").mkdir(parents=True)
    assert open_run(config, WORLD).is_dir()


def test_the_same_run_is_continued(config):
    assert begin(config) == open_run(config, WORLD)


def test_a_run_may_move_and_be_prolonged(config, tmp_path):
    begin(config).rename(tmp_path / "moved")
    longer = TrainingOptions(steps=20, learning_rate=1e-4, placement="whole-ranks")
    run = open_run(
        replace(config, run=str(tmp_path / "moved"), device="cpu", training=longer), WORLD
    )
    assert read_configuration(RunConfig, run / "config.yaml").training.steps == 20


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 5}, "(seed)"),
        ({"dtype": "float64", "seed": 5}, "(dtype, seed)"),
        ({"heads": {}}, "(heads.2.batch_size, heads.No)"),
    ],
)
def test_changed_settings_are_named(config, changes, named):
    begin(config)
    if "heads" in changes:
        changes = {"heads": {"2": replace(config.heads["2"], batch_size=1)}}
    with pytest.raises(ValueError, match="holds a run with other settings") as error:
        open_run(replace(config, **changes), WORLD)
    assert named in str(error.value)
    assert "another folder with run=FOLDER" in str(error.value)


def test_settings_may_change_while_nothing_was_computed(config):
    open_run(config, WORLD)
    run = open_run(replace(config, seed=5), WORLD)
    assert read_configuration(RunConfig, run / "config.yaml").seed == 5


def test_a_folder_with_other_things_is_left_alone(config, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").touch()
    with pytest.raises(ValueError, match="exists and holds no run; choose another folder"):
        open_run(replace(config, run=str(other)), WORLD)


def test_a_file_is_no_folder(config, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="exists and holds no run"):
        open_run(replace(config, run=str(tmp_path / "file")), WORLD)


def test_a_folder_that_cannot_be_made_says_why(config, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot write the folder .*file/run: Not a directory"):
        open_run(replace(config, run=str(tmp_path / "file" / "run")), WORLD)


def test_a_killed_write_leaves_the_old_configuration(config, monkeypatch):
    run = begin(config)
    monkeypatch.setattr(
        "pathlib.Path.replace", lambda *args: (_ for _ in ()).throw(OSError(5, "x"))
    )
    with pytest.raises(ValueError, match="cannot write the folder of the run"):
        open_run(replace(config, device="cpu"), WORLD)
    assert read_configuration(RunConfig, run / "config.yaml") == config
