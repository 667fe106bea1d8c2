"""The portable form of a potential: a directory of JSON and safetensors, nothing that can run code.

config.json                 format, architecture, heads, SHA-256 of every file and of itself
backbone.safetensors        heads/<name>.safetensors        training.json        README.md
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from gfm_models.backbone import Backbone, BackboneConfig
from gfm_models.heads import Head, HeadConfig
from gfm_models.potential import MultiHeadPotential, build_potential

FORMAT = "gfm-checkpoint"
FORMAT_VERSION = 1
CONFIG_FILE = "config.json"
BACKBONE_FILE = "backbone.safetensors"
TRAINING_FILE = "training.json"
CARD_FILE = "README.md"
RUN_CHECKPOINT = "checkpoint"
"""Folder inside a run's folder that holds the checkpoint it ended with."""
RUN_BEST = "best"
"""Folder inside a run's folder that holds a checkpoint of each head at its best."""

HEAD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]{0,63}")


WRITTEN_BEFORE = {"radial_intervals": 1024, "repulsion_reach": 1.0, "correlation": 3}
"""Architecture of checkpoints that do not tell it. They were written when the radial network was
evaluated at every distance, which splines of so many pieces follow to 1e-9, and when repulsion
reached as far as bonds do; products took three neighbours together."""


class CheckpointError(ValueError):
    """A checkpoint that is damaged, incomplete or of an unknown version."""


def head_file(name: str) -> str:
    """Where a head's weights lie inside a checkpoint."""
    return f"heads/{check_head_name(name)}.safetensors"


def check_head_name(name: str) -> str:
    """A head's name becomes a file name and a key of `nn.ModuleDict`, which knows no dots.

    Raises:
        ValueError: it is not of that form, or one of torch's own names, such as `train`.
    """
    if not HEAD_NAME.fullmatch(name):
        raise ValueError(
            f"'{name}' is no name for a head: use letters, digits and _ + -, at most 64, "
            "beginning with a letter or digit"
        )
    if hasattr(nn.ModuleDict, name):
        raise ValueError(f"'{name}' is no name for a head: torch uses it; choose a longer one")
    return name


def save(potential: MultiHeadPotential, directory: Path, *, training: Mapping[str, Any]) -> None:
    """Write a whole checkpoint into an empty or new directory.

    Raises:
        ValueError: there is something in the directory already.
    """
    directory = Path(directory)
    if directory.exists() and any(directory.iterdir()):
        raise ValueError(f"{directory} is not empty; give a new folder to save a checkpoint into")
    write_backbone(potential.backbone, directory)
    for name in potential.head_names:
        write_head(potential.head(name), name, directory)
    write_config(
        directory,
        backbone=potential.backbone.config,
        heads={name: potential.head(name).config for name in potential.head_names},
        training=training,
    )


def write_backbone(backbone: Backbone, directory: Path) -> Path:
    """Write the shared weights; the file."""
    return _save_weights(backbone, directory / BACKBONE_FILE)


def write_head(head: Head, name: str, directory: Path) -> Path:
    """Write one head's weights; the file."""
    return _save_weights(head, directory / head_file(name))


def write_config(
    directory: Path,
    *,
    backbone: BackboneConfig,
    heads: Mapping[str, HeadConfig],
    training: Mapping[str, Any],
) -> None:
    """Write `training.json` and, last, `config.json` with the SHA-256 of every file."""
    text = json.dumps(training, indent=1, allow_nan=False)
    (directory / TRAINING_FILE).write_text(text + "\n", encoding="utf-8")
    config: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "units": {"energy": "eV", "length": "Å"},
        "architecture": asdict(backbone),
        "elements": sorted({symbol for head in heads.values() for symbol in head.elements}),
        "heads": {
            name: {"elements": head.elements, **asdict(head)} for name, head in heads.items()
        },
        "files": {name: file_sha256(directory / name) for name in checkpoint_files(heads)},
    }
    config = json.loads(json.dumps(config))  # tuples and lists are one in the file's own form
    config["sha256"] = _document_sha256(config)
    text = json.dumps(config, indent=1, ensure_ascii=False)
    (directory / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def read_config(directory: Path) -> dict[str, Any]:
    """The parsed `config.json`, its version and its own checksum verified.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: it is damaged, or of a format this version does not know.
    """
    path = Path(directory) / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{directory} holds no checkpoint: {CONFIG_FILE} is missing")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"it is not JSON ({error})") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise CheckpointError(f"{path} does not describe a {FORMAT}")
    if config.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {config.get('format_version')}, this gfmcalc reads "
            f"{FORMAT_VERSION}; upgrade gfmcalc"
        )
    if config.get("sha256") != _document_sha256(config):
        raise _damaged(path, "its SHA-256 differs from the one written in it")
    _check_files(path, config)
    return config


def checkpoint_files(heads: Iterable[str]) -> list[str]:
    """The files of a checkpoint with these heads, besides `config.json` and the model card."""
    return [BACKBONE_FILE, *map(head_file, heads), TRAINING_FILE]


def verify(directory: Path, *, heads: Sequence[str] | None = None) -> None:
    """Compare the SHA-256 of every file, or of the shared files and the named heads.

    The model card is for people; it has no checksum and nothing reads it.

    Raises:
        FileNotFoundError: there is no checkpoint.
        CheckpointError: naming the file that is missing or differs.
        ValueError: there is no head of that name.
    """
    directory = Path(directory)
    config = read_config(directory)
    for name in checkpoint_files(select(config, heads)):
        _verify_file(directory / name, config["files"][name])


def select(config: Mapping[str, Any], heads: Sequence[str] | None) -> list[str]:
    """The named heads of a checkpoint, all of them for None.

    Raises:
        ValueError: there is none of that name; the error lists those there are.
    """
    known = list(config["heads"])
    for name in heads or ():
        if name not in known:
            raise ValueError(f"no head '{name}'; {describe_heads(config)}")
    return known if heads is None else list(heads)


def describe_heads(config: Mapping[str, Any]) -> str:
    """One line: the heads there are, each with its level of theory."""
    return "the heads are: " + ", ".join(
        f"{name} ({head['level_of_theory']})" for name, head in config["heads"].items()
    )


def head_config(config: Mapping[str, Any], name: str) -> HeadConfig:
    """One head's description from a parsed `config.json`.

    Raises:
        CheckpointError: it is not one.
    """
    with _described(f"head '{name}'"):
        return _head_config(config, name)


def _head_config(config: Mapping[str, Any], name: str) -> HeadConfig:
    described = config["heads"][check_head_name(name)]
    fields = {key: value for key, value in described.items() if key != "elements"}
    return HeadConfig(**{**fields, "labels": tuple(fields["labels"])})


def backbone_config(config: Mapping[str, Any]) -> BackboneConfig:
    """The architecture from a parsed `config.json`.

    Raises:
        CheckpointError: it is not one, or out of bounds.
    """
    with _described("architecture"):
        fields = {**WRITTEN_BEFORE, **config["architecture"]}
        return BackboneConfig(**{**fields, "radial_hidden": tuple(fields["radial_hidden"])})


@contextmanager
def _described(what: str) -> Iterator[None]:
    """Name what of `config.json` could not be made sense of."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{CONFIG_FILE} has no valid {what}: {error}") from error


def load(
    directory: Path,
    *,
    heads: Sequence[str] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> MultiHeadPotential:
    """Read a checkpoint, or the backbone and some of its heads, after verifying every file used.

    Raises:
        FileNotFoundError: there is no checkpoint.
        CheckpointError: a file is damaged, or does not fit the architecture.
        ValueError: there is no head of that name.
    """
    directory = Path(directory)
    verify(directory, heads=heads)
    config = read_config(directory)
    names = select(config, heads)
    architecture = backbone_config(config)
    head_configs = {name: head_config(config, name) for name in names}
    with torch.device("meta"):
        skeleton = build_potential(architecture, head_configs)
    files = {BACKBONE_FILE: skeleton.backbone} | {
        head_file(name): skeleton.head(name) for name in names
    }
    for name, module in files.items():
        _check_shapes(directory / name, module)
    potential = build_potential(architecture, head_configs, dtype=dtype)
    _load_weights(directory / BACKBONE_FILE, potential.backbone)
    for name in names:
        _load_weights(directory / head_file(name), potential.head(name))
    return potential.to(device)


def read_training(directory: Path) -> dict[str, Any]:
    """How the checkpoint was trained: `training.json`, verified."""
    config = read_config(directory)
    path = Path(directory) / TRAINING_FILE
    _verify_file(path, config["files"][TRAINING_FILE])
    return json.loads(path.read_text(encoding="utf-8"))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _document_sha256(config: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in config.items() if key != "sha256"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _check_files(path: Path, config: Mapping[str, Any]) -> None:
    """Every file that will be read must be listed, and no other."""
    heads, files = config.get("heads"), config.get("files")
    if not isinstance(heads, dict) or not isinstance(files, dict):
        raise CheckpointError(f"{path} lists no heads or no files")
    different = set(files) ^ set(checkpoint_files(heads))
    if different:
        raise CheckpointError(f"{path}: heads and files do not agree on {sorted(different)}")


def _verify_file(path: Path, expected: str) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; download the checkpoint again")
    if file_sha256(path) != expected:
        raise _damaged(path, "its SHA-256 differs from the one in config.json")


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path} is damaged: {reason}; download the checkpoint again")


def _save_weights(module: nn.Module, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu() for name, value in module.state_dict().items()}
    save_file({name: value.contiguous() for name, value in weights.items()}, path)
    return path


def _check_shapes(path: Path, skeleton: nn.Module) -> None:
    expected = {name: list(value.shape) for name, value in skeleton.state_dict().items()}
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise _damaged(path, str(error)) from error
    if found != expected:
        different = sorted(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        )
        raise CheckpointError(
            f"{path} does not fit the architecture in {CONFIG_FILE}: {different[0]} should have "
            f"shape {expected.get(different[0])}, has {found.get(different[0])}"
        )


def _load_weights(path: Path, module: nn.Module) -> None:
    with safe_open(path, framework="pt") as file, torch.no_grad():
        for name, value in module.state_dict().items():
            value.copy_(file.get_tensor(name))
