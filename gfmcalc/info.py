"""What a checkpoint says of itself, as text for a terminal."""

import json
import math
from pathlib import Path

from gfm_models.checkpoint import (
    BACKBONE_FILE,
    CheckpointError,
    head_file,
    read_config,
    read_training,
    verify,
)
from gfm_pretrain.table import text_table

from gfmcalc.card import ERROR_HEADER, error_rows

MAX_ELEMENTS = 12
"""A longer list of elements is shortened in the middle."""


def find_damage(directory: Path) -> str | None:
    """Which file does not have its SHA-256 sum; None if all that are there have it.

    Heads that were not downloaded are not damage.

    Raises:
        CheckpointError: the configuration cannot be read.
    """
    config = read_config(directory)
    present = [name for name in config["heads"] if (directory / head_file(name)).is_file()]
    try:
        verify(directory, heads=present)
    except (CheckpointError, FileNotFoundError) as error:
        return str(error)
    return None


def describe(directory: Path, damage: str | None) -> str:
    """Architecture, files, heads, reference energies and test errors of a checkpoint.

    Args:
        directory: the checkpoint.
        damage: what `find_damage` found.

    Raises:
        CheckpointError: the configuration cannot be read.
    """
    config = read_config(directory)
    sections = (
        _summary(directory, config, damage),
        _files(directory, config),
        _heads(config),
        _errors(directory, config),
    )
    return "\n\n".join(sections)


def _summary(directory: Path, config: dict, damage: str | None) -> str:
    rows = [
        ("folder", directory),
        ("format", f"{config['format']} {config['format_version']}"),
        ("verified", "yes, by SHA-256" if damage is None else f"NO: {damage}"),
        ("elements", _elements(config["elements"])),
        *((key, json.dumps(value)) for key, value in config["architecture"].items()),
    ]
    return text_table(("property", "value"), rows)


def _files(directory: Path, config: dict) -> str:
    names = [BACKBONE_FILE, *(head_file(name) for name in config["heads"])]
    rows = [(name, _n_parameters(directory / name)) for name in names]
    return text_table(("file", "parameters"), rows)


def _n_parameters(path: Path) -> str:
    """The number of values in a safetensors file, from its header alone."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return "not here"
    try:
        with safe_open(path, framework="numpy") as file:
            keys = file.keys()
            return f"{sum(math.prod(file.get_slice(key).get_shape()) for key in keys):,}"
    except SafetensorError:
        return "unreadable"


def _heads(config: dict) -> str:
    header = ("head", "level of theory", "labels", "elements", "description", "reference energies")
    rows = [
        (
            name + (" (stale)" if head["stale"] else ""),
            head["level_of_theory"],
            ", ".join(head["labels"]),
            _elements(head["elements"]),
            head["description"],
            head["reference_origin"],
        )
        for name, head in config["heads"].items()
    ]
    return text_table(header, rows)


def _elements(symbols: list[str]) -> str:
    if len(symbols) <= MAX_ELEMENTS:
        return ", ".join(symbols)
    return f"{', '.join(symbols[:3])}, … {', '.join(symbols[-3:])} ({len(symbols)})"


def _errors(directory: Path, config: dict) -> str:
    rows = error_rows(config, read_training(directory))
    return text_table(ERROR_HEADER, rows) if rows else "no test errors are recorded"
