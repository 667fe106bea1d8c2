"""A run's configuration file, with presets of the model in it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gfm_models.presets import without_preset

from gfm_pretrain.config import RunConfig
from gfm_pretrain.configuration import read_configuration


def read_run_configuration(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run; `model: {preset: small, …}` is replaced by what the preset stands for.

    So that a run, its snapshots and its checkpoint know numbers alone: a preset that changes in a
    later version changes no run that has begun.

    Args:
        path: YAML file, see `read_configuration`.
        overrides: As there; `model.preset=medium` is one.

    Raises:
        FileNotFoundError: No such file.
        ConfigurationError: Anything else that is wrong, in one line.
    """
    return read_configuration(RunConfig, path, overrides, resolve=_with_numbers)


def _with_numbers(mapping: dict[str, Any]) -> dict[str, Any]:
    model = mapping.get("model")
    if not isinstance(model, Mapping):
        return mapping
    try:
        return {**mapping, "model": without_preset(model)}
    except ValueError as error:
        raise ValueError(f"'model.preset': {error}") from None
