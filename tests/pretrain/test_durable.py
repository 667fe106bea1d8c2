import pytest
from gfm_pretrain.durable import publish_folder, read_sealed, recover, write_sealed


def folder_of(path, text: str):
    (path / "inside").mkdir(parents=True)
    (path / "inside" / "file").write_text(text)
    return path


def text_of(path) -> str:
    return (path / "inside" / "file").read_text()


def test_a_folder_takes_the_place_of_an_older_one(tmp_path):
    final = folder_of(tmp_path / "final", "old")
    publish_folder(folder_of(tmp_path / "final.unfinished", "new"), final)
    assert text_of(final) == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_killed_after_the_old_one_was_put_aside(tmp_path):
    folder_of(tmp_path / "final.replaced", "old")
    folder_of(tmp_path / "final.unfinished", "new")
    recover(tmp_path)
    assert text_of(tmp_path / "final") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_killed_before_the_old_one_was_removed(tmp_path):
    folder_of(tmp_path / "final.replaced", "old")
    folder_of(tmp_path / "final", "new")
    recover(tmp_path)
    assert text_of(tmp_path / "final") == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_nothing_to_recover(tmp_path):
    folder_of(tmp_path / "final", "old")
    (tmp_path / "file.unfinished").touch()
    recover(tmp_path)
    recover(tmp_path / "absent")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.unfinished", "final"]


def test_a_changed_value_is_damage(tmp_path):
    path = tmp_path / "facts.json"
    write_sealed(path, {"a": 1, "b": [0.1]})
    assert read_sealed(path) == {"a": 1, "b": [0.1]}
    path.write_text(path.read_text().replace("0.1", "0.2"))
    with pytest.raises(ValueError, match="is damaged"):
        read_sealed(path)
