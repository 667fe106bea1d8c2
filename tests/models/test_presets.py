import pytest
from gfm_models.backbone import Backbone, BackboneConfig
from gfm_models.presets import PRESETS, preset, without_preset


def n_parameters(config: BackboneConfig) -> int:
    return sum(p.numel() for p in Backbone(config).parameters())


def test_small_is_small_and_what_is_taken_where_nothing_is_said():
    assert preset("small") == BackboneConfig()
    assert n_parameters(preset("small")) <= 500_000


def test_presets_grow():
    sizes = [n_parameters(config) for config in PRESETS.values()]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_an_unknown_preset_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="no preset 'tiny'; the presets are: small, medium, large"):
        preset("tiny")


def test_settings_beside_a_preset_take_the_place_of_its_own():
    numbers = without_preset({"preset": "medium", "cutoff": 4.5})
    expected = {**PRESETS["medium"].__dict__, "cutoff": 4.5}
    assert numbers == expected
    assert BackboneConfig(**numbers).channels == PRESETS["medium"].channels


def test_settings_without_a_preset_stay_as_they_are():
    assert without_preset({"channels": 8}) == {"channels": 8}
