"""What we ask of the Hugging Face hub: one commit up, some files down, and clear errors.

The client library is imported when it is first needed: it costs most of a second.
"""

import fnmatch
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import ModelInfo

PROBE_SECONDS = 10
"""How long the hub may take to answer before the files in the cache are used instead."""

ADVICE = {
    401: "the token is missing or not valid: run `hf auth login` or set HF_TOKEN",
    403: "this token may not do that: make one with write access at {hub}/settings/tokens and "
    "run `hf auth login`",
    404: "there is no such file or revision",
    412: "somebody else published to it meanwhile: look at what is there, then publish again",
    429: "too many requests: wait a few minutes and try again",
}
"""HTTP status → what it means here, and the way out."""


class HubError(OSError):
    """The hub cannot be reached, or refused what was asked of it."""


@dataclass(frozen=True, kw_only=True)
class HubRepository:
    """A model repository on the Hugging Face hub."""

    repo_id: str
    """`org/name`."""

    revision: str | None = None
    """Branch, tag or commit; None is the head of the main branch."""

    def __str__(self) -> str:
        return self.repo_id if self.revision is None else f"{self.repo_id}@{self.revision}"


def upload(
    repo: HubRepository,
    files: Mapping[str, Path | bytes],
    *,
    replaces: Collection[str],
    tag: str | None,
    private: bool,
) -> str:
    """Put files into a repository, made if it does not exist, by one commit on its main branch.

    Args:
        repo: where to; its revision is not used.
        files: path in the repository → file or content.
        replaces: patterns of paths; what matches and is not in `files` is deleted.
        tag: a tag that will be set later, to be refused now if it is taken.
        private: the repository must be private.

    Returns:
        The full id of the commit.

    Raises:
        HubError: no token, no right, the tag is taken, the repository is public though `private`
            was asked, or somebody else made a commit since we looked.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    _require_token(repo)
    with _hub_errors(repo):
        api = HfApi()
        # `None` leaves the choice to the settings of the organisation.
        api.create_repo(repo.repo_id, private=private or None, exist_ok=True)
        info = api.model_info(repo.repo_id)
        _check_private(repo, info, private)
        _check_tag_free(repo, tag)
        add = [CommitOperationAdd(path_in_repo=k, path_or_fileobj=v) for k, v in files.items()]
        delete = [CommitOperationDelete(path) for path in _stale(info, files, replaces)]
        commit = api.create_commit(
            repo.repo_id,
            [*add, *delete],
            commit_message="Publish a checkpoint with gfmcalc",
            parent_commit=info.sha,
        )
        return commit.oid


def add_tag(repo: HubRepository, tag: str) -> None:
    """Name the commit `repo.revision`.

    Raises:
        HubError: the tag is taken, or the hub refuses.
    """
    from huggingface_hub import HfApi

    with _hub_errors(repo):
        HfApi().create_tag(repo.repo_id, tag=tag, revision=repo.revision)


def download(
    repo: HubRepository,
    names: Collection[str],
    *,
    folder: Path | None = None,
    again: bool = False,
    offline: bool = False,
) -> Path:
    """Get files of a repository; those that it does not have are left out.

    Args:
        repo: where from, at which revision.
        names: paths in the repository.
        folder: where to; None is the hub's cache, from which present files are not fetched again.
        again: fetch also what is present.
        offline: use nothing but the cache.

    Returns:
        `folder`, or the folder of the commit in the cache, which bears the id of the commit.

    Raises:
        HubError: the hub cannot be reached or refuses, and the cache does not have the files.
    """
    from huggingface_hub import snapshot_download

    with _hub_errors(repo):
        path = snapshot_download(
            repo.repo_id,
            revision=repo.revision,
            allow_patterns=list(names),
            local_dir=folder,
            force_download=again,
            local_files_only=offline,
        )
    return Path(path)


def why_unreachable(repo: HubRepository) -> HubError | None:
    """Ask the hub for the revision: None if it answers, else what is in the way."""
    from huggingface_hub import HfApi

    try:
        with _hub_errors(repo):
            HfApi().model_info(repo.repo_id, revision=repo.revision, timeout=PROBE_SECONDS)
    except HubError as error:
        return error
    return None


def is_offline() -> bool:
    """Whether the user asked to stay offline, by HF_HUB_OFFLINE."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def _require_token(repo: HubRepository) -> None:
    from huggingface_hub import get_token

    if get_token() is None:
        raise HubError(f"{repo}: not logged in: run `hf auth login` or set HF_TOKEN")


def _check_private(repo: HubRepository, info: "ModelInfo", private: bool) -> None:
    if private and not info.private:
        raise HubError(f"{repo} exists and is public: make it private first, or choose another")


def _check_tag_free(repo: HubRepository, tag: str | None) -> None:
    from huggingface_hub import HfApi

    if tag is None:
        return
    if tag in {known.name for known in HfApi().list_repo_refs(repo.repo_id).tags}:
        raise HubError(f"{repo} already has a tag {tag!r}: choose another")


def _stale(info: "ModelInfo", files: Collection[str], replaces: Collection[str]) -> list[str]:
    present = [sibling.rfilename for sibling in info.siblings or ()]
    matched = {name for pattern in replaces for name in fnmatch.filter(present, pattern)}
    return sorted(matched - set(files))


@contextmanager
def _hub_errors(repo: HubRepository) -> Iterator[None]:
    """Turn every failure of the hub's client into a HubError that names the way out."""
    from huggingface_hub import errors

    try:
        yield
    except HubError:
        raise
    except errors.HfHubHTTPError as error:
        raise HubError(f"{repo}: {_explanation(error)}") from error
    except Exception as error:
        # Of its transports (httpx, httpx2, hf_xet) the client lets every kind of error through.
        raise HubError(f"{repo}: {_failure(error)}") from error


def _explanation(error: "HfHubHTTPError") -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    status, hub = error.response.status_code, constants.ENDPOINT
    if isinstance(error, GatedRepoError):
        return f"ask for access on its page at {hub}, then run `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"no such model at {hub}, or it is private: check the name or run `hf auth login`; "
            "a folder that does not exist yet is written ./org/name"
        )
    reason = error.server_message or error.response.reason_phrase
    advice = ADVICE.get(status, "try again later").format(hub=hub)
    return f"the hub answered {status} ({reason}): {advice}"


def _failure(error: Exception) -> str:
    from huggingface_hub import constants

    if is_offline():
        return "not in the cache, and HF_HUB_OFFLINE is set: unset it to download"
    cause = error.__cause__ or error
    reason = next(iter(str(cause).splitlines()), "")
    return (
        f"talking to {constants.ENDPOINT} failed ({type(cause).__name__}: {reason}): "
        "check the network, or give a folder that is there"
    )
