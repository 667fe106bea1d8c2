from pathlib import Path

import h5py
import h5py.h5o
import numpy as np
import pytest
from gfm_pretrain.data.sources.hdf5 import (
    find_dataset,
    find_group,
    iterate_groups,
    open_hdf5,
    split_rows,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "some.h5"
    with h5py.File(path, "w") as file:
        file["a/energy"] = np.arange(5.0)
        file["b/energy"] = np.arange(5.0)
        file["numbers"] = np.arange(3)
    return path


def test_groups_and_datasets_are_found_and_told_apart(path: Path):
    with open_hdf5(path) as file:
        assert [name for name, _ in iterate_groups(file)] == ["a", "b"]
        assert find_group(file, "b") is not None
        assert find_group(file, "numbers") is None
        assert find_dataset(file, "numbers") is not None
        assert find_dataset(file, "b") is None
        assert find_dataset(file, "b/forces") is None


def test_rows_are_split_into_runs_without_gaps():
    runs = list(split_rows(2001))
    assert [len(run) for run in runs] == [1000, 1000, 1]
    assert [row for run in runs for row in run] == list(range(2001))
    assert list(split_rows(0)) == []


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" * 1000])
def test_what_is_no_hdf5_file_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "other.h5"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.h5: no HDF5 file.*signature not found"):
        open_hdf5(path).__enter__()


def test_a_truncated_file_is_named(path: Path):
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"some\.h5: .*damaged.*truncated"):
        open_hdf5(path).__enter__()


def test_damage_inside_a_file_is_not_taken_for_an_absent_dataset(path: Path):
    with h5py.File(path, "r") as file:
        header = h5py.h5o.get_info(file["b/energy"].id).addr
    content = bytearray(path.read_bytes())
    content[header : header + 16] = bytes([255] * 16)
    path.write_bytes(content)
    with open_hdf5(path) as file:
        assert find_dataset(file, "a/energy") is not None
    with pytest.raises(ValueError, match=r"some\.h5: .*damaged.*/b/energy: .*object") as caught:
        find_in(path, "b/energy")
    assert "\n" not in str(caught.value)


def test_a_link_that_leads_nowhere_is_not_taken_for_an_absent_dataset(path: Path):
    with h5py.File(path, "a") as file:
        file["b/forces"] = h5py.SoftLink("/nowhere")
    with pytest.raises(ValueError, match=r"some\.h5: .*/b/forces: .*not found"):
        find_in(path, "b/forces")


def find_in(path: Path, name: str) -> None:
    with open_hdf5(path) as file:
        find_dataset(file, name)


def test_a_missing_file_is_no_damaged_file(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*absent\.h5'"):
        open_hdf5(tmp_path / "absent.h5").__enter__()
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        open_hdf5(tmp_path).__enter__()
