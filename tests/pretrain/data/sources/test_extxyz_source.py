import bz2
import gzip
import lzma
from pathlib import Path

import gfm_pretrain.data.extxyz as reader
import numpy as np
import pytest
from gfm_pretrain.data.sources.extxyz import SOURCE
from gfm_pretrain.data.sources.source import Block, Record, Refused, resolve_options

CELL = 'Lattice="4 0 0 0 5 0 0 0 6" pbc="T T T"'
FORCES = "Properties=species:S:1:pos:R:3:forces:R:3"


def frame(comment: str, *, symbol: str = "H", forces: bool = False) -> str:
    """Text of an O–H pair, or of another element in place of H."""
    columns = (" 1 2 3", " -1 -2 -3") if forces else ("", "")
    return f"2\n{comment}\nO 0.0 0.0 0.0{columns[0]}\n{symbol} 0.0 0.0 0.96{columns[1]}\n"


def blocks_of(path: Path, **options: str) -> list[Block]:
    return list(SOURCE.blocks(path, resolve_options(SOURCE, options)))


def records_of(path: Path, **options: str) -> list[Record | Refused]:
    return [record for block in blocks_of(path, **options) for record in block.read()]


def groups_of(path: Path, **options: str) -> list[str]:
    return [r.group for r in records_of(path, **options) if isinstance(r, Record)]


@pytest.fixture
def file(tmp_path):
    def write_text(*frames: str, name: str = "set.xyz") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(frames))
        return path

    return write_text


def test_a_frame_becomes_a_record(file):
    comment = f'{FORCES} energy=-5 {CELL} virial="120 0 0 0 240 0 0 0 360"'
    [record] = records_of(file(frame(comment, forces=True)))
    assert isinstance(record, Record)
    assert (record.identifier, record.group, record.split) == ("set.xyz:0", "HO", None)
    assert record.energy == -5.0
    np.testing.assert_array_equal(record.atomic_numbers, [8, 1])
    np.testing.assert_array_equal(record.positions, [[0, 0, 0], [0, 0, 0.96]])
    np.testing.assert_array_equal(record.cell, np.diag([4, 5, 6]))
    assert record.pbc.all()
    np.testing.assert_array_equal(record.forces, [[1, 2, 3], [-1, -2, -3]])
    assert record.stress is not None
    np.testing.assert_allclose(record.stress, np.diag([-1, -2, -3]))


def test_one_key_is_chosen_for_all_frames(file):
    """Frames that lack it lack the label; another level's energy is not taken instead."""
    path = file(frame("REF_energy=-1 energy=-9 source_id=a:7"), frame("energy=-9"), frame("x=1"))
    records = records_of(path)
    assert [r.energy for r in records if isinstance(r, Record)] == [-1.0, None, None]
    assert [r.identifier for r in records] == ["a:7", "set.xyz:1", "set.xyz:2"]


def test_keys_that_the_user_names(file):
    comment = f'e=-1.5 energy=-9 w="120 0 0 0 240 0 0 0 360" {CELL}'
    [record] = records_of(file(frame(comment)), energy_key="e", virial_key="w")
    assert isinstance(record, Record)
    assert record.energy == -1.5
    assert record.stress is not None
    np.testing.assert_allclose(record.stress, np.diag([-1, -2, -3]))
    with pytest.raises(ValueError, match=r"set\.xyz: no structure has the forces key 'ff'; its"):
        blocks_of(file(frame("energy=1")), forces_key="ff")


def test_keys_are_chosen_over_the_first_frames(file):
    path = file(*["1\nx=1\nH 0 0 0\n"] * 1000, frame("energy=1 late=1"))
    with pytest.raises(ValueError, match="no structure among the first 1000 has an energy or for"):
        blocks_of(path)
    with pytest.raises(ValueError, match="among the first 1000 has the energy key 'late'"):
        blocks_of(path, energy_key="late")


def test_frames_are_parsed_only_where_a_block_is_read(file, monkeypatch):
    parsed = []
    read = reader.read
    monkeypatch.setattr(reader, "read", lambda *a, **k: parsed.append(1) or read(*a, **k))
    blocks = blocks_of(file(*(frame(f"energy={i}") for i in range(1100))))
    done = [block.done for block in blocks]
    assert done == sorted(done)
    assert 0 < done[0] < 0.5
    assert done[-1] == 1.0
    assert len(parsed) == 1000  # to choose the keys
    assert len(blocks) == 5
    last = list(blocks[-1].read())
    assert len(last) == 1100 - 4 * 256 == len(parsed) - 1000
    assert [record.identifier for record in last[:2]] == ["set.xyz:1024", "set.xyz:1025"]


@pytest.mark.parametrize(
    ("suffix", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)]
)
def test_compressed_files(tmp_path, suffix, compress):
    path = tmp_path / f"set.extxyz.{suffix}"
    content = compress("".join(frame(f"energy={i}") for i in range(300)).encode())
    path.write_bytes(content)
    records = records_of(path)
    assert [r.energy for r in records if isinstance(r, Record)] == list(range(300))
    assert records[299].identifier == f"set.extxyz.{suffix}:299"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"set\.extxyz\.{suffix}, frame \d+: .*[Ee]nd"):
        blocks_of(path)
    path.write_bytes(b"not compressed")
    with pytest.raises(ValueError, match=rf"set\.extxyz\.{suffix}, frame 0: "):
        blocks_of(path)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (frame("energy=2", symbol="Qq"), "Qq"),
        (frame("energy=2").replace("0.96", "zero"), "could not convert"),
        (frame("energy=unknown"), "the energy key 'energy' must hold one number"),
        (frame('energy=2 virial="1 0 0 0 1 0 0 0 1"'), "needs three independent cell vectors"),
        (frame(f'energy=2 {CELL} virial="1 9 0 0 1 0 0 0 1"'), "is not symmetric"),
    ],
)
def test_a_frame_that_cannot_be_read_is_refused_and_the_others_are_not(file, bad, reason):
    good = frame(f'energy=1 {CELL} virial="1 0 0 0 1 0 0 0 1"')
    first, second, third = records_of(file(good, bad, good))
    assert isinstance(first, Record)
    assert isinstance(second, Refused)
    assert isinstance(third, Record)
    assert (second.identifier, second.kind) == ("set.xyz:1", "unreadable")
    assert reason in second.reason
    assert "\n" not in second.reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3\nenergy=1\nO 0 0 0\n", r"set\.xyz, frame 1: the file ends 2 lines early"),
        ("1\nenergy=1\nO 0 0 0\nH 0 0 1\n", r"set\.xyz, frame 2: expected the number of atoms"),
    ],
)
def test_a_file_whose_frames_cannot_be_told_apart_is_damaged(file, text, message):
    with pytest.raises(ValueError, match=message):
        blocks_of(file(frame("energy=1"), text))


def test_files_without_anything_to_read(file):
    with pytest.raises(ValueError, match=r"set\.xyz: the file is empty"):
        blocks_of(file(""))
    with pytest.raises(ValueError, match=r"no frame can be read; set\.xyz:0: .*Qq"):
        blocks_of(file(frame("energy=1", symbol="Qq")))


def test_groups(file):
    path = file(frame("energy=1 mol=7"), frame("energy=2 mol=ethanol", symbol="S"))
    assert groups_of(path) == ["HO", "OS"]
    [one, two] = groups_of(path, group_by="file")
    assert one == two
    assert one.endswith("/set.xyz")
    assert len(set(groups_of(path, group_by="frame"))) == 2
    assert groups_of(path, group_key="mol") == ["7", "ethanol"]


def test_files_of_one_name_in_two_folders_are_two_groups(file):
    one, two = (file(frame("energy=1"), name=f"{folder}/OUT.xyz") for folder in ("md1", "md2"))
    assert groups_of(one, group_by="file") != groups_of(two, group_by="file")


def test_a_frame_without_the_group_key_is_refused(file):
    path = file(frame("energy=1 mol=7"), frame("energy=2"))
    _, second = records_of(path, group_key="mol")
    assert isinstance(second, Refused)
    assert second.reason == "it has no 'mol' in info to group it by"
    with pytest.raises(ValueError, match=r"has the group key 'mole' in info; .*did you mean 'mol'"):
        blocks_of(path, group_key="mole")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.extxyz.gz", "train"),
        ("spice_val-01.xyz", "valid"),
        ("Valid.xyz", "valid"),
        ("test.xyz", "test"),
        ("validation/set.xyz", "valid"),
        ("test/train_1.xyz", "train"),
    ],
)
def test_the_name_of_a_file_gives_its_split(file, name, split):
    path = file(frame("energy=1"), name=name.removesuffix(".gz"))
    if name.endswith(".gz"):
        path = path.with_name(name)
        path.write_bytes(gzip.compress(frame("energy=1").encode()))
    [record] = records_of(path, split_by="filename")
    assert isinstance(record, Record)
    assert record.split == split


@pytest.mark.parametrize("name", ["latest.xyz", "data/training-data2/contest.xyz"])
def test_a_part_of_a_word_is_no_split(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(frame("energy=1"))
    with pytest.raises(ValueError, match="split_by=filename needs the word train, valid or test"):
        blocks_of(path, split_by="filename")


def test_a_name_of_two_splits_is_none(file):
    with pytest.raises(ValueError, match=r"train_test\.xyz names test and train"):
        blocks_of(file(frame("energy=1"), name="train_test.xyz"), split_by="filename")
