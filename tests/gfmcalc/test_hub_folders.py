"""Checkpoints in folders: found, published, pulled, and copied whole or not at all."""

import json
import shutil
from pathlib import Path

import pytest
from gfm_models.checkpoint import (
    BACKBONE_FILE,
    CARD_FILE,
    CONFIG_FILE,
    TRAINING_FILE,
    CheckpointError,
    head_file,
    read_config,
    verify,
)

from gfmcalc.checkpoint_folder import file_names
from gfmcalc.hub import parse_location, publish, pull, resolve_model
from gfmcalc.hub_client import HubRepository

SUMMED_FILES = (CONFIG_FILE, BACKBONE_FILE, head_file("rmd17"), head_file("mptrj"), TRAINING_FILE)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def hub_id(repo_id: str, revision: str | None = None) -> HubRepository:
    return HubRepository(repo_id=repo_id, revision=revision)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("org/name", hub_id("org/name")),
        ("org/name@v1.0", hub_id("org/name", "v1.0")),
        ("org/na-me_1.5@refs/pr/3", hub_id("org/na-me_1.5", "refs/pr/3")),
        ("hf://org/name@main", hub_id("org/name", "main")),
        ("name", Path("name")),
        ("./org/name", Path("org/name")),
        ("../name", Path("../name")),
        ("/org/name", Path("/org/name")),
        ("~/name", Path.home() / "name"),
        (".org/name", Path(".org/name")),
        ("org/name/more", Path("org/name/more")),
        ("org/na..me", Path("org/na..me")),
        ("org/na me", Path("org/na me")),
    ],
)
def test_location(text: str, expected: object, here: Path) -> None:
    assert parse_location(text) == expected


def test_existing_folder_goes_before_the_hub(here: Path) -> None:
    (here / "org" / "name").mkdir(parents=True)
    assert parse_location("org/name") == Path("org/name")
    assert parse_location("hf://org/name") == hub_id("org/name")


@pytest.mark.parametrize("text", ["hf://name", "hf://org/name/more", "hf://./org/name", "hf://"])
def test_hub_location_of_a_wrong_form(text: str) -> None:
    with pytest.raises(ValueError, match=r"hf://org/name\[@revision\]"):
        parse_location(text)


def test_model_by_its_folder_or_its_run(checkpoint: Path) -> None:
    assert resolve_model(checkpoint) == checkpoint
    assert resolve_model(str(checkpoint.parent)) == checkpoint


def test_unknown_model_tells_the_accepted_forms(here: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"'gfm-large'.*run folder.*org/name\[@revision\]"):
        resolve_model("gfm-large")


def test_path_is_never_the_hub(here: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint at 'org/name'"):
        resolve_model(Path("org/name"))


def test_publish_to_a_new_folder(checkpoint: Path, here: Path) -> None:
    result = publish(checkpoint.parent, "models/deep/small")
    assert result == str(here / "models" / "deep" / "small")
    for name in SUMMED_FILES:
        assert (Path(result) / name).read_bytes() == (checkpoint / name).read_bytes()
    assert 'GFMCalculator("./small", head="rmd17")' in (Path(result) / CARD_FILE).read_text()


def test_published_folder_is_as_readable_as_any(checkpoint: Path, here: Path) -> None:
    (here / "plain").mkdir()
    publish(checkpoint, "./published")
    assert (here / "published").stat().st_mode == (here / "plain").stat().st_mode


def test_publish_replaces_a_checkpoint_whole(checkpoint: Path, here: Path) -> None:
    publish(checkpoint, "./small")
    stale = here / "small" / "heads" / "stale.safetensors"
    stale.write_bytes(b"old")
    publish(checkpoint, "./small")
    verify(here / "small")
    assert not stale.exists()
    assert [path.name for path in here.iterdir()] == ["small"]


def test_publish_replaces_a_damaged_checkpoint(checkpoint: Path, here: Path) -> None:
    publish(checkpoint, "./small")
    flip_a_bit(here / "small" / BACKBONE_FILE)
    publish(checkpoint, "./small")
    verify(here / "small")


def test_publish_a_checkpoint_onto_itself(checkpoint: Path) -> None:
    publish(checkpoint, str(checkpoint))
    verify(checkpoint)
    assert (checkpoint / CARD_FILE).is_file()


@pytest.mark.parametrize(
    ("name", "content"),
    [("notes.txt", "mine"), (CONFIG_FILE, '{"model_type": "bert"}'), (CONFIG_FILE, "not JSON")],
)
def test_folder_that_is_no_checkpoint_is_left_alone(
    name: str, content: str, checkpoint: Path, here: Path
) -> None:
    (here / "mine").mkdir()
    (here / "mine" / name).write_text(content)
    with pytest.raises(FileExistsError, match="not empty and no checkpoint"):
        publish(checkpoint, "./mine")
    assert [path.name for path in (here / "mine").iterdir()] == [name]
    assert (here / "mine" / name).read_text() == content


def test_checkpoint_with_other_files_is_left_alone(checkpoint: Path, here: Path) -> None:
    publish(checkpoint, "./small")
    (here / "small" / ".git").mkdir()
    (here / "small" / ".git" / "HEAD").write_text("ref: refs/heads/main")
    with pytest.raises(FileExistsError, match=r"more than a checkpoint.*\.git/HEAD"):
        publish(checkpoint, "./small")
    assert (here / "small" / ".git" / "HEAD").is_file()


def test_file_as_destination_is_refused(checkpoint: Path, here: Path) -> None:
    (here / "small").write_text("a file")
    with pytest.raises(FileExistsError, match="is a file"):
        publish(checkpoint, "./small")


def test_empty_folder_is_filled(checkpoint: Path, here: Path) -> None:
    (here / "small").mkdir()
    publish(checkpoint, "./small")
    verify(here / "small")


def test_copy_that_stops_half_way_leaves_the_old_one(
    checkpoint: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(checkpoint, "./small")
    before = (here / "small" / CARD_FILE).stat()
    monkeypatch.setattr(shutil, "copyfile", disk_full_after(2))
    with pytest.raises(OSError, match="disk full"):
        publish(checkpoint, "./small")
    verify(here / "small")
    assert (here / "small" / CARD_FILE).stat() == before
    assert [path.name for path in here.iterdir()] == ["small"]


def test_copy_damaged_on_the_way_leaves_the_old_one(
    checkpoint: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(checkpoint, "./small")
    monkeypatch.setattr(shutil, "copyfile", damaging_copy)
    with pytest.raises(CheckpointError, match="is damaged"):
        publish(checkpoint, "./small")
    verify(here / "small")
    assert [path.name for path in here.iterdir()] == ["small"]


def test_rename_that_fails_brings_the_old_one_back(
    checkpoint: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(checkpoint, "./small")
    monkeypatch.setattr(Path, "rename", second_fails(Path.rename))
    with pytest.raises(OSError, match="no rename"):
        publish(checkpoint, "./small")
    verify(here / "small")
    assert [path.name for path in here.iterdir()] == ["small"]


@pytest.mark.parametrize("option", [{"revision_tag": "v1"}, {"private": True}])
def test_hub_options_for_a_folder_are_refused(option: dict, checkpoint: Path, here: Path) -> None:
    with pytest.raises(ValueError, match="is a folder"):
        publish(checkpoint, "./small", **option)


@pytest.mark.parametrize("name", SUMMED_FILES)
def test_pull_finds_one_changed_bit(name: str, checkpoint: Path, tmp_path: Path) -> None:
    flip_a_bit(checkpoint / name)
    with pytest.raises(CheckpointError, match=f"{name} is damaged"):
        pull(str(checkpoint), to=tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("name", SUMMED_FILES[1:])
def test_pull_finds_a_missing_file(name: str, checkpoint: Path) -> None:
    (checkpoint / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        pull(str(checkpoint))


def test_pull_without_a_copy_is_the_folder_itself(checkpoint: Path) -> None:
    assert pull(str(checkpoint.parent)) == checkpoint


def test_pull_of_one_head_does_not_look_at_the_other(checkpoint: Path, tmp_path: Path) -> None:
    flip_a_bit(checkpoint / head_file("mptrj"))
    folder = pull(str(checkpoint), to=tmp_path / "copy", heads=["rmd17"])
    verify(folder, heads=["rmd17"])
    assert not (folder / head_file("mptrj")).exists()


def test_pull_of_an_unknown_head_lists_those_there_are(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match=r"'oc20'.*rmd17 .*mptrj "):
        pull(str(checkpoint), heads=["oc20"])


def test_revision_of_a_folder_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="a revision is for the hub"):
        pull(str(checkpoint), revision="v1")


@pytest.mark.parametrize("name", ["../../evil.safetensors", "/etc/evil", "heads/../../evil"])
def test_file_outside_the_checkpoint_is_refused(name: str, checkpoint: Path) -> None:
    config = read_config(checkpoint)
    config["files"][name] = "0" * 64
    with pytest.raises(CheckpointError, match="outside the checkpoint"):
        file_names(config)


def test_card_of_the_source_is_pulled_with_it(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / CARD_FILE).write_text("# mine")
    folder = pull(str(checkpoint), to=tmp_path / "copy")
    assert (folder / CARD_FILE).read_text() == "# mine"
    assert json.loads((folder / CONFIG_FILE).read_text()) == read_config(checkpoint)


def flip_a_bit(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def disk_full_after(n_files: int):
    copied = []

    def copy(source: Path, target: Path) -> None:
        if len(copied) == n_files:
            raise OSError("disk full")
        copied.append(target)
        target.write_bytes(source.read_bytes())

    return copy


def damaging_copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())
    if target.suffix == ".safetensors":
        flip_a_bit(target)


def second_fails(rename):
    calls = []

    def checked(path: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise OSError("no rename")
        return rename(path, target)

    return checked
