"""Publish a checkpoint to a folder or to the Hugging Face hub, and get one from there.

What is sent or received is verified by the SHA-256 sums that the checkpoint itself holds: neither
the hub's client nor safetensors notices a changed byte.
"""

import logging
import re
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from gfm_models.checkpoint import (
    CARD_FILE,
    CONFIG_FILE,
    TRAINING_FILE,
    CheckpointError,
    read_config,
    read_training,
    verify,
)

from gfmcalc.card import model_card
from gfmcalc.checkpoint_folder import (
    HEAD_FILES,
    checkpoint_folder,
    copy_checkpoint,
    file_names,
)
from gfmcalc.hub_client import (
    HubError,
    HubRepository,
    add_tag,
    download,
    is_offline,
    upload,
    why_unreachable,
)

logger = logging.getLogger(__name__)

Location: TypeAlias = Path | HubRepository

HUB_SCHEME = "hf://"

_NAME = r"\w(?:[\w.-]*\w)?"
HUB_ID = re.compile(
    rf"(?!.*(?:--|\.\.))(?P<repo_id>{_NAME}/{_NAME})(?:@(?P<revision>[\w./-]+))?", re.ASCII
)
"""`org/name[@revision]` in the characters that the hub allows."""

COMMIT_ID = re.compile("[0-9a-f]{40}")


def parse_location(text: str) -> Location:
    """Tell a folder from a repository on the Hugging Face hub.

    `hf://org/name[@revision]` is always the hub. A text that is exactly `org/name` or
    `org/name@revision`, and no existing folder, is the hub too. Anything else is a folder: write
    `./org/name` for a folder that does not exist yet.

    Raises:
        ValueError: what follows `hf://` is not `org/name[@revision]`.
    """
    hub_id = HUB_ID.fullmatch(text.removeprefix(HUB_SCHEME))
    if text.startswith(HUB_SCHEME) and hub_id is None:
        raise ValueError(f"a hub location has the form hf://org/name[@revision], got {text!r}")
    if hub_id is None or Path(text).exists():
        return Path(text).expanduser()
    return HubRepository(**hub_id.groupdict())


def publish(
    run_or_checkpoint: Path,
    destination: str,
    *,
    revision_tag: str | None = None,
    private: bool = False,
) -> str:
    """Verify a checkpoint, write its model card, and put both where others find them.

    The source is left as it is. A destination folder is replaced as a whole, by a rename, after
    the copy was verified. On the hub everything is one commit, made only if nobody committed
    meanwhile; it is downloaded again and verified before it is tagged.

    Args:
        run_or_checkpoint: a run folder, which holds `checkpoint/`, or a checkpoint folder.
        destination: a folder or a hub repository, as `parse_location` reads it.
        revision_tag: a name for this commit on the hub.
        private: create the hub repository for its owner only.

    Returns:
        The folder, or `org/name@<commit>` with the full id of the commit.

    Raises:
        FileNotFoundError: there is no checkpoint at `run_or_checkpoint`.
        CheckpointError: the checkpoint is damaged, or what the hub holds after the upload is.
        FileExistsError: the destination folder holds something else than a checkpoint.
        ValueError: a tag or `private` for a folder, or a revision in the destination.
        HubError: the hub cannot be reached or refuses, with the way out.
    """
    source = checkpoint_folder(run_or_checkpoint)
    verify(source)
    location = parse_location(destination)
    if isinstance(location, HubRepository):
        return _publish_to_hub(source, location, tag=revision_tag, private=private)
    if revision_tag is not None or private:
        raise ValueError(f"a tag and `private` are for the hub; {destination!r} is a folder")
    card = _card(source, f"./{location.resolve().name}")
    return str(copy_checkpoint(source, location, card=card))


def pull(
    source: str,
    *,
    to: Path | None = None,
    heads: list[str] | None = None,
    revision: str | None = None,
) -> Path:
    """Get a checkpoint with the heads wanted, every file of it verified.

    From the hub, files are kept in the hub's own cache and used from there without a network. A
    damaged file is downloaded once more.

    Args:
        source: a folder or a hub repository, as `parse_location` reads it.
        to: copy the checkpoint into this folder, which then holds these heads only; an existing
            folder must be empty or a checkpoint. None leaves it where it is.
        heads: names of the heads wanted; None for all.
        revision: branch, tag or commit on the hub.

    Returns:
        The checkpoint folder: `to`, or the one in the hub's cache, or the source.

    Raises:
        FileNotFoundError: there is no checkpoint at `source`.
        CheckpointError: a file is damaged; on the hub, also after a second download.
        FileExistsError: `to` holds something else than a checkpoint.
        ValueError: a head that the checkpoint does not have, or a revision of a folder.
        HubError: the hub cannot be reached or refuses, and the cache does not have the files.
    """
    location = _at_revision(parse_location(source), revision)
    if isinstance(location, HubRepository):
        folder = _pull_from_hub(location, heads)
    else:
        folder = checkpoint_folder(location)
        verify(folder, heads=heads)
    return folder if to is None else copy_checkpoint(folder, to, heads=heads)


def resolve_model(model: str | Path, *, head: str | None = None) -> Path:
    """Find the checkpoint folder that a user's word for a model stands for.

    Args:
        model: a checkpoint folder, a run folder that holds `checkpoint/`, or a hub repository;
            a string is read by `parse_location`.
        head: download only this head, where the model is on the hub.

    Raises:
        FileNotFoundError: there is no such model; says which forms are accepted.
        CheckpointError, ValueError, HubError: as for `pull`, where the model is on the hub.
    """
    location = parse_location(model) if isinstance(model, str) else model
    if isinstance(location, HubRepository):
        return _pull_from_hub(location, None if head is None else [head])
    return checkpoint_folder(location)


def _publish_to_hub(source: Path, repo: HubRepository, *, tag: str | None, private: bool) -> str:
    if repo.revision is not None:
        raise ValueError(f"publish to the main branch, {repo.repo_id}; a tag names the commit")
    files: dict[str, Path | bytes] = {
        name: source / name for name in file_names(read_config(source))
    }
    files[CARD_FILE] = _card(source, repo.repo_id).encode()
    stale = (HEAD_FILES, TRAINING_FILE)
    commit = upload(repo, files, replaces=stale, tag=tag, private=private)
    published = replace(repo, revision=commit)
    _verify_published(published, files)
    if tag is not None:
        add_tag(published, tag)
    return str(published)


def _verify_published(repo: HubRepository, names: Collection[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            verify(download(repo, names, folder=Path(folder), again=True))
        except CheckpointError as damage:
            raise CheckpointError(f"{repo} arrived damaged: publish again ({damage})") from damage


def _card(source: Path, location: str) -> str:
    return model_card(read_config(source), read_training(source), location=location)


def _at_revision(location: Location, revision: str | None) -> Location:
    if revision is None:
        return location
    if not isinstance(location, HubRepository):
        raise ValueError(f"a revision is for the hub; '{location}' is a folder")
    if location.revision not in (None, revision):
        raise ValueError(f"two revisions given: {location} and {revision}")
    return replace(location, revision=revision)


def _pull_from_hub(repo: HubRepository, heads: Sequence[str] | None) -> Path:
    """The verified folder in the hub's cache; warns if the hub could not be asked for a newer."""
    blocked = _why_blocked(repo)
    if blocked is None:
        return _fetch(repo, heads, offline=is_offline())
    try:
        folder = _fetch(repo, heads, offline=True)
    except HubError as missing:
        raise blocked from missing
    logger.warning("%s; using the copy in the cache", blocked)
    return folder


def _why_blocked(repo: HubRepository) -> HubError | None:
    """What keeps us from asking which commit is current; None if nothing does or none need ask."""
    is_commit = repo.revision is not None and COMMIT_ID.fullmatch(repo.revision)
    return None if is_commit or is_offline() else why_unreachable(repo)


def _fetch(repo: HubRepository, heads: Sequence[str] | None, *, offline: bool) -> Path:
    """Download the configuration, which tells what else is wanted, then that.

    The commit that the configuration came from fixes the commit of the other files, should
    somebody publish in between.
    """
    config_only = _download_verified(repo, [CONFIG_FILE], read_config, offline=offline)
    names = [*file_names(read_config(config_only), heads), CARD_FILE]
    pinned = replace(repo, revision=config_only.name)
    return _download_verified(pinned, names, partial(verify, heads=heads), offline=offline)


def _download_verified(
    repo: HubRepository, names: Collection[str], check: Callable[[Path], object], *, offline: bool
) -> Path:
    """Download, and once more if `check` finds damage."""
    folder = download(repo, names, offline=offline)
    try:
        check(folder)
    except CheckpointError as damage:
        if offline:
            raise
        logger.warning("%s; downloading it again", damage)
        return _download_again(repo, names, check)
    return folder


def _download_again(
    repo: HubRepository, names: Collection[str], check: Callable[[Path], object]
) -> Path:
    folder = download(repo, names, again=True)
    try:
        check(folder)
    except CheckpointError as damage:
        raise CheckpointError(
            f"the second download of {repo} is damaged too: tell its publisher, or choose another "
            f"revision ({damage})"
        ) from damage
    return folder
