"""Architectures by name."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gfm_models.backbone import BackboneConfig

PRESETS: Mapping[str, BackboneConfig] = {
    "small": BackboneConfig(),
    "medium": BackboneConfig(channels=64, l_hidden=2, correlation=3, n_radial=8),
    "large": BackboneConfig(
        channels=128,
        l_hidden=2,
        correlation=3,
        n_radial=10,
        radial_hidden=(96, 96),
        radial_intervals=384,
        cutoff=6.0,
    ),
}
"""`small` is what every table of speed and accuracy is about; the others are as it is, but wider
and of higher degree, for more data and more time."""


def preset(name: str) -> BackboneConfig:
    """The architecture of this name.

    Raises:
        ValueError: there is none; the error lists those there are.
    """
    if name not in list(PRESETS):  # a list has no hash
        raise ValueError(f"no preset '{name}'; the presets are: {', '.join(PRESETS)}")
    return PRESETS[name]


def without_preset(model: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a model in which `preset`, where it is given, is replaced by what it stands for.

    Settings beside it take the place of its own.

    Args:
        model: Such as `{"preset": "small", "channels": 32}`.

    Raises:
        ValueError: no such preset.
    """
    if "preset" not in model:
        return dict(model)
    changes = {key: value for key, value in model.items() if key != "preset"}
    return {**asdict(preset(model["preset"])), **changes}
