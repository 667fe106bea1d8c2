from pathlib import Path

import pytest
from gfm_models.presets import PRESETS
from gfm_pretrain.configuration import ConfigurationError, to_mapping
from gfm_pretrain.run_configuration import read_run_configuration

RUN = """
run: runs/one
heads: {molecules: {train: train.xyz, level_of_theory: PBE}}
training: {steps: 1}
"""


def write(folder: Path, model: str = "") -> Path:
    path = folder / "run.yaml"
    path.write_text(RUN + model)
    return path


def test_a_preset_is_replaced_by_its_numbers(tmp_path: Path):
    config = read_run_configuration(write(tmp_path, "model: {preset: medium}"))
    assert config.model == PRESETS["medium"]
    assert "preset" not in to_mapping(config)["model"]


def test_what_stands_beside_a_preset_counts_and_the_command_line_more(tmp_path: Path):
    path = write(tmp_path, "model: {preset: medium, channels: 8, cutoff: 4.0}")
    config = read_run_configuration(path, ["model.preset=large", "model.channels=6"])
    assert config.model is not None
    assert (config.model.channels, config.model.cutoff) == (6, 4.0)
    assert config.model.l_max == PRESETS["large"].l_max


def test_without_a_model_it_is_the_small_one(tmp_path: Path):
    assert read_run_configuration(write(tmp_path)).architecture == PRESETS["small"]


def test_an_unknown_preset_is_one_line_with_those_there_are(tmp_path: Path):
    expected = "run.yaml: 'model.preset': no preset 'tiny'; the presets are: small, medium, large$"
    with pytest.raises(ConfigurationError, match=expected):
        read_run_configuration(write(tmp_path, "model: {preset: tiny}"))


def test_a_preset_that_is_no_word_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"no preset '\['small'\]'"):
        read_run_configuration(write(tmp_path, "model: {preset: [small]}"))


def test_numbers_beside_a_preset_are_checked(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"model\.channels must lie in 1 to 4096, got 0"):
        read_run_configuration(write(tmp_path, "model: {preset: small, channels: 0}"))


@pytest.mark.parametrize("model", ["model: small", "model: [1]"])
def test_a_model_that_is_no_mapping_is_refused(tmp_path: Path, model: str):
    with pytest.raises(ConfigurationError, match="'model' must be a mapping"):
        read_run_configuration(write(tmp_path, model))
