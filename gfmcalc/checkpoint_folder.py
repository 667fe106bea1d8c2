"""Find checkpoint folders, list their files, and copy them whole or not at all."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from uuid import uuid4

from gfm_models.checkpoint import (
    BACKBONE_FILE,
    CARD_FILE,
    CONFIG_FILE,
    FORMAT,
    RUN_BEST,
    RUN_CHECKPOINT,
    TRAINING_FILE,
    CheckpointError,
    head_file,
    read_config,
    select,
    verify,
)

ACCEPTED_FORMS = (
    "a checkpoint folder, a run folder that holds checkpoint/, or a hub id org/name[@revision]"
)

HEAD_FILES = "heads/*.safetensors"


def checkpoint_folder(path: Path) -> Path:
    """`path` itself if it is a checkpoint folder, or the checkpoint of the run folder `path`.

    Raises:
        FileNotFoundError: it is neither; says which forms a model may have.
    """
    for folder in (path, path / RUN_CHECKPOINT):
        if (folder / CONFIG_FILE).is_file():
            return folder
    raise FileNotFoundError(f"no checkpoint at '{path}': give {ACCEPTED_FORMS}")


def best_folder(run: Path, head: str) -> Path:
    """The checkpoint of a head at its best in a run.

    Raises:
        FileNotFoundError: the run keeps none of this head; lists those it keeps.
    """
    folder = run / RUN_BEST / head
    if (folder / CONFIG_FILE).is_file():
        return folder
    found = (path.parent for path in (run / RUN_BEST).glob(f"*/{CONFIG_FILE}"))
    kept = sorted(path.name for path in found if not path.suffix)  # those are being written
    raise FileNotFoundError(
        f"'{run}' keeps no best weights of a head '{head}'; it keeps "
        f"{', '.join(kept) or 'none: they need validation data, and snapshots.best'}"
    )


def file_names(config: dict, heads: Sequence[str] | None = None) -> list[str]:
    """The files of a checkpoint with these heads (None: all), relative to its folder.

    The model card is not among them: it has no checksum, and may be absent.

    Raises:
        ValueError: a head that the checkpoint does not have; lists those it has.
        CheckpointError: the configuration names a file outside the folder.
    """
    wanted = select(config, heads)
    unwanted = {head_file(name) for name in config["heads"] if name not in wanted}
    names = [CONFIG_FILE, *(name for name in config["files"] if name not in unwanted)]
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise CheckpointError(f"{CONFIG_FILE} names a file outside the checkpoint: {name!r}")
    return names


def copy_checkpoint(
    source: Path,
    destination: Path,
    *,
    heads: Sequence[str] | None = None,
    card: str | None = None,
) -> Path:
    """Copy a checkpoint so that `destination` is at any time the old one or the new one, whole.

    The files go to a new folder beside the destination, are verified there, and the folder is
    renamed. An existing checkpoint is renamed away just before that, and deleted after it.

    Args:
        source: a checkpoint folder.
        destination: a folder that does not exist, is empty, or holds a checkpoint to be replaced.
        heads: names of the heads to copy; None for all.
        card: the text of the model card; None copies that of the source, if it has one.

    Returns:
        The destination as an absolute path.

    Raises:
        FileExistsError: the destination holds other files, which would be lost.
        CheckpointError: the copy is damaged; the destination is as it was.
    """
    destination = destination.expanduser().resolve()
    _refuse_foreign(destination)
    staging = _sibling(destination)
    try:
        _copy_files(source, staging, heads, card)
        verify(staging, heads=heads)
        _move_into_place(staging, destination)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return destination


def _copy_files(source: Path, target: Path, heads: Sequence[str] | None, card: str | None) -> None:
    names = file_names(read_config(source), heads)
    if card is None and (source / CARD_FILE).is_file():
        card = (source / CARD_FILE).read_text(encoding="utf-8")
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
    if card is not None:
        (target / CARD_FILE).write_text(card, encoding="utf-8")


def _move_into_place(staging: Path, destination: Path) -> None:
    if not destination.exists():
        staging.rename(destination)
        return
    old = _sibling(destination)
    destination.rename(old)
    try:
        staging.rename(destination)
    except OSError:
        old.rename(destination)
        raise
    shutil.rmtree(old)


def _sibling(folder: Path) -> Path:
    """A free name beside the folder, so on the same file system."""
    return folder.with_name(f".{folder.name}.{uuid4().hex}")


def _refuse_foreign(folder: Path) -> None:
    """Raise FileExistsError if replacing the folder would delete more than a checkpoint."""
    if folder.is_file():
        raise FileExistsError(f"'{folder}' is a file: choose a folder")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not _holds_checkpoint(folder):
        raise FileExistsError(f"'{folder}' is not empty and no checkpoint: choose another folder")
    if foreign := _foreign_files(folder):
        raise FileExistsError(
            f"'{folder}' holds more than a checkpoint, which replacing it would delete "
            f"({', '.join(foreign[:3])}): move that away or choose another folder"
        )


def _holds_checkpoint(folder: Path) -> bool:
    """Whether the folder says of itself that it is a checkpoint, damaged or not."""
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("format") == FORMAT


def _foreign_files(folder: Path) -> list[str]:
    own = {CONFIG_FILE, BACKBONE_FILE, TRAINING_FILE, CARD_FILE}
    files = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return sorted(str(f) for f in files if f.as_posix() not in own and not f.match(HEAD_FILES))
