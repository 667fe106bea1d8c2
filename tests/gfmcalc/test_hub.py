"""The real client of the Hugging Face hub against a hub on the loopback interface."""

import logging
from pathlib import Path

import pytest
from gfm_models.checkpoint import (
    BACKBONE_FILE,
    CARD_FILE,
    CONFIG_FILE,
    TRAINING_FILE,
    CheckpointError,
    head_file,
    load,
    save,
    verify,
)
from loopback_hub import LoopbackHub, Repository

from gfmcalc.hub import publish, pull, resolve_model
from gfmcalc.hub_client import HubError

pytestmark = [
    pytest.mark.hub,
    # The client's own upload of large files, for servers without xet.
    pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning"),
]

SUMMED_FILES = (CONFIG_FILE, BACKBONE_FILE, head_file("rmd17"), head_file("mptrj"), TRAINING_FILE)


@pytest.fixture
def published(hub: LoopbackHub, checkpoint: Path) -> str:
    """`org/name@commit` of the checkpoint; nothing in the cache, no requests counted."""
    name = publish(checkpoint, "org/name")
    hub.requests.clear()
    return name


@pytest.fixture
def repository(hub: LoopbackHub, published: str) -> Repository:
    return hub.repositories["org/name"]


def without_head(checkpoint: Path, name: str) -> Path:
    """A copy of the checkpoint that lost a head."""
    potential = load(checkpoint)
    del potential.heads[name]
    smaller = checkpoint.with_name(f"without-{name}")
    save(potential, smaller, training={})
    return smaller


def test_round_trip_is_byte_identical(published: str, checkpoint: Path) -> None:
    folder = pull(published)
    for name in SUMMED_FILES:
        assert (folder / name).read_bytes() == (checkpoint / name).read_bytes()


def test_publish_returns_the_commit_and_adds_a_card(published: str, repository: Repository) -> None:
    assert published == f"org/name@{repository.head}"
    card = repository.commits[repository.head][CARD_FILE].decode()
    assert 'GFMCalculator("org/name", head="rmd17")' in card


def test_publish_leaves_the_source_as_it_was(published: str, checkpoint: Path) -> None:
    files = {path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*.*")}
    assert files == set(SUMMED_FILES)


def test_publish_takes_a_run_folder(hub: LoopbackHub, checkpoint: Path) -> None:
    publish(checkpoint.parent, "hf://org/name")
    verify(pull("org/name"))


def test_publishing_again_is_one_commit_without_stale_heads(
    checkpoint: Path, repository: Repository
) -> None:
    n_commits = len(repository.commits)
    publish(without_head(checkpoint, "mptrj"), "org/name")
    assert len(repository.commits) == n_commits + 1
    files = repository.commits[repository.head]
    assert head_file("mptrj") not in files
    assert ".gitattributes" in files
    verify(pull("org/name"))


def test_publishing_the_same_again_changes_no_file(
    checkpoint: Path, repository: Repository
) -> None:
    before = repository.commits[repository.head]
    publish(checkpoint, "org/name")
    assert repository.commits[repository.head] == before


def test_tag_names_the_commit(hub: LoopbackHub, checkpoint: Path) -> None:
    first = publish(checkpoint, "org/name", revision_tag="v1")
    publish(without_head(checkpoint, "mptrj"), "org/name")
    assert pull("org/name@v1") == pull(first)
    assert pull("org/name", revision="v1") == pull(first)
    assert pull("org/name") != pull(first)


def test_taken_tag_is_refused_before_the_commit(checkpoint: Path, repository: Repository) -> None:
    repository.tags["v1"] = repository.head
    n_commits = len(repository.commits)
    with pytest.raises(HubError, match="already has a tag 'v1'"):
        publish(without_head(checkpoint, "mptrj"), "org/name", revision_tag="v1")
    assert len(repository.commits) == n_commits


def test_private_repository(hub: LoopbackHub, checkpoint: Path) -> None:
    publish(checkpoint, "org/secret", private=True)
    assert hub.repositories["org/secret"].private


def test_private_publication_to_a_public_repository_is_refused(
    checkpoint: Path, repository: Repository
) -> None:
    n_commits = len(repository.commits)
    with pytest.raises(HubError, match="is public"):
        publish(without_head(checkpoint, "mptrj"), "org/name", private=True)
    assert len(repository.commits) == n_commits


def test_revision_in_the_destination_is_refused(hub: LoopbackHub, checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="a tag names the commit"):
        publish(checkpoint, "org/name@v1")


def test_damaged_checkpoint_is_not_published(hub: LoopbackHub, checkpoint: Path) -> None:
    flip_a_bit(checkpoint / BACKBONE_FILE)
    with pytest.raises(CheckpointError, match=BACKBONE_FILE):
        publish(checkpoint, "org/name")
    assert hub.requests == []


def test_damage_on_the_way_is_found_before_the_tag(hub: LoopbackHub, checkpoint: Path) -> None:
    hub.corrupt(head_file("mptrj"))
    with pytest.raises(CheckpointError, match=r"publish again.*mptrj"):
        publish(checkpoint, "org/name", revision_tag="v1")
    assert hub.repositories["org/name"].tags == {}


def test_commit_of_somebody_else_meanwhile(hub: LoopbackHub, checkpoint: Path) -> None:
    hub.interlope()
    with pytest.raises(HubError, match=r"412.*somebody else published"):
        publish(checkpoint, "org/name")
    repository = hub.repositories["org/name"]
    assert CONFIG_FILE not in repository.commits[repository.head]


def test_no_token(hub: LoopbackHub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="hf auth login"):
        publish(checkpoint, "org/name")
    assert hub.requests == []


def test_invalid_token(hub: LoopbackHub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(HubError, match=r"401.*hf auth login"):
        publish(checkpoint, "org/name")


def test_token_without_the_right(hub: LoopbackHub, published: str, checkpoint: Path) -> None:
    hub.answer(403, method="POST", path="/preupload/")
    with pytest.raises(HubError, match=r"403.*write access"):
        publish(checkpoint, "org/name")


def test_unknown_repository(hub: LoopbackHub) -> None:
    with pytest.raises(HubError, match=r"org/missing: no such model .* \./org/name"):
        pull("org/missing")


def test_unknown_revision(published: str) -> None:
    with pytest.raises(HubError, match=r"org/name@v9: .*404"):
        pull("org/name@v9")


def test_two_revisions(hub: LoopbackHub) -> None:
    with pytest.raises(ValueError, match="two revisions"):
        pull("org/name@v1", revision="v2")


def test_one_head_only(hub: LoopbackHub, published: str) -> None:
    folder = pull("org/name", heads=["mptrj"])
    verify(folder, heads=["mptrj"])
    assert not (folder / head_file("rmd17")).exists()
    assert hub.downloads(head_file("rmd17")) == 0


def test_unknown_head_lists_those_there_are(published: str) -> None:
    with pytest.raises(ValueError, match=r"rmd17 \(PBE/def2-SVP\), mptrj \(PBE\+U\)"):
        pull("org/name", heads=["oc20"])


def test_pull_into_a_folder(published: str, checkpoint: Path, tmp_path: Path) -> None:
    folder = pull("org/name", to=tmp_path / "copy", heads=["rmd17"])
    assert folder == tmp_path / "copy"
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert (folder / CARD_FILE).is_file()
    assert [path.name for path in (folder / "heads").iterdir()] == ["rmd17.safetensors"]


def test_resolve_model_downloads_the_head_asked_for(published: str) -> None:
    folder = resolve_model("org/name", head="rmd17")
    verify(folder, heads=["rmd17"])
    assert not (folder / head_file("mptrj")).exists()


@pytest.mark.parametrize("name", SUMMED_FILES)
def test_damage_is_repaired_by_a_second_download(
    name: str, hub: LoopbackHub, published: str
) -> None:
    hub.corrupt(name, times=1)
    verify(pull("org/name"))
    assert hub.downloads(name) == 2


@pytest.mark.parametrize("name", SUMMED_FILES)
def test_lasting_damage_is_an_error_that_names_the_file(
    name: str, hub: LoopbackHub, published: str
) -> None:
    hub.corrupt(name, times=100)
    with pytest.raises(CheckpointError, match=rf"second download of org/name.*{name} is damaged"):
        pull("org/name")


def test_damage_in_the_cache_is_repaired(hub: LoopbackHub, published: str) -> None:
    flip_a_bit(pull("org/name") / BACKBONE_FILE)
    verify(pull("org/name"))
    assert hub.downloads(BACKBONE_FILE) == 2


def test_a_commit_in_the_cache_needs_no_network(hub: LoopbackHub, published: str) -> None:
    folder = pull(published)
    hub.requests.clear()
    assert pull(published) == folder
    assert hub.requests == []


def test_without_network_the_cache_is_used_and_said_so(
    hub: LoopbackHub, published: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = pull("org/name", heads=["rmd17"])
    hub.stop()
    with caplog.at_level(logging.WARNING):
        assert pull("org/name", heads=["rmd17"]) == folder
    assert "failed (ConnectError" in caplog.text
    assert "using the copy in the cache" in caplog.text


def test_without_network_a_head_not_in_the_cache_is_an_error(
    hub: LoopbackHub, published: str
) -> None:
    pull("org/name", heads=["rmd17"])
    hub.stop()
    with pytest.raises(HubError, match=r"talking to http://127.* failed"):
        pull("org/name", heads=["mptrj"])


def test_a_failing_hub_leaves_the_cache(
    hub: LoopbackHub, published: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = pull("org/name")
    hub.requests.clear()
    hub.answer(500, method="GET", path="/api/models/", times=1)
    assert pull("org/name") == folder
    assert len(hub.requests) == 1
    assert "the hub answered 500" in caplog.text


def test_without_network_nothing_is_published(hub: LoopbackHub, checkpoint: Path) -> None:
    hub.stop()
    with pytest.raises(HubError, match=r"failed.*check the network"):
        publish(checkpoint, "org/name")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch):
    """Switch to what HF_HUB_OFFLINE=1 at start does."""
    from huggingface_hub import constants

    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_offline_by_choice_uses_the_cache_silently(
    hub: LoopbackHub, published: str, offline, caplog: pytest.LogCaptureFixture
) -> None:
    folder = pull("org/name")
    hub.requests.clear()
    offline()
    assert pull("org/name") == folder
    assert hub.requests == []
    assert caplog.text == ""


def test_offline_by_choice_a_missing_head_names_the_setting(published: str, offline) -> None:
    pull("org/name", heads=["rmd17"])
    offline()
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        pull("org/name", heads=["mptrj"])


def test_offline_damage_in_the_cache_is_an_error(published: str, offline) -> None:
    flip_a_bit(pull("org/name") / BACKBONE_FILE)
    offline()
    with pytest.raises(CheckpointError, match=BACKBONE_FILE):
        pull("org/name")


def flip_a_bit(path: Path) -> None:
    """Change one bit in the middle of a file, also behind a link of the cache."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
