"""A store that is read: at random, by many processes, without copies; never a wrong number."""

import json
import multiprocessing
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from gfm_pretrain.data.store.manifest import MANIFEST, StoreError, read_manifest
from gfm_pretrain.data.store.store import check_content, check_sizes, is_store, open_store
from gfm_pretrain.durable import read_sealed, write_sealed
from small_files import read_frames


@pytest.fixture
def copy(imported, tmp_path) -> Path:
    return Path(shutil.copytree(imported, tmp_path / "store"))


def files_of(folder: Path) -> list[str]:
    return list(read_manifest(folder).files)


def test_all_files_are_listed(imported):
    on_disk = {p.relative_to(imported).as_posix() for p in imported.rglob("*") if p.is_file()}
    assert on_disk == {MANIFEST, *files_of(imported)}
    assert is_store(imported)
    assert not is_store(imported.parent)


def test_random_reads_are_those_in_order(imported):
    train = open_store(imported).splits["train"]
    places = np.random.default_rng(0).permutation(len(train))[:20]
    columns = train.read(places)
    ends = np.cumsum(columns.n_atoms)
    for row, place in enumerate(places):
        structure = train.structure(int(place))
        atoms = slice(ends[row] - columns.n_atoms[row], ends[row])
        assert np.array_equal(columns.positions[atoms], structure.positions)
        assert np.array_equal(columns.forces[atoms], structure.forces)  # pyright: ignore[reportArgumentType]
        assert np.array_equal(columns.atomic_numbers[atoms], structure.atomic_numbers)
        assert columns.energy[row] == structure.energy
        assert np.array_equal(columns.stress[row], structure.stress)  # pyright: ignore[reportArgumentType]
        assert np.array_equal(columns.cell[row], structure.cell)
        assert columns.pbc[row].all()


def test_labels_come_back_in_the_precision_that_is_stated(imported):
    frames = dict(enumerate(read_frames(imported.parent / "all.extxyz")))
    for structures in open_store(imported).splits.values():
        for structure in structures.structures():
            atoms = frames.pop(int(structure.identifier.removeprefix("all.extxyz:")))
            assert structure.energy == atoms.get_potential_energy()
            assert structure.positions == pytest.approx(atoms.positions, rel=1e-7)
            assert structure.forces == pytest.approx(atoms.get_forces(), rel=1e-7)
            assert structure.stress == pytest.approx(atoms.get_stress(voigt=False), rel=1e-7)
            assert np.array_equal(structure.cell, atoms.cell.array)
    assert not frames


def test_what_is_read_is_mapped_and_cannot_be_written(imported):
    shard = open_store(imported).splits["train"].shards[0]
    assert "memmap" in type_names(shard.positions)
    with pytest.raises(ValueError, match="read-only"):
        shard.positions[0] = 0.0


@pytest.mark.parametrize("place", [-1, 10**6])
def test_a_place_that_is_not_there(imported, place):
    with pytest.raises(IndexError, match=r"places must lie in 0 … \d+"):
        open_store(imported).splits["train"].read(np.array([place]))


def test_every_truncated_file_is_refused_by_name(copy):
    for name in files_of(copy):
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(StoreError, match=f"{name} is damaged: it must have"):
            open_store(copy, verify=False)
        (copy / name).write_bytes(content)
    open_store(copy)


def test_every_flipped_bit_is_refused_by_name(copy):
    generator = np.random.default_rng(1)
    for name in files_of(copy):
        content = (copy / name).read_bytes()
        changed = bytearray(content)
        changed[generator.integers(len(changed))] ^= 1 << generator.integers(8)
        (copy / name).write_bytes(changed)
        with pytest.raises(StoreError, match=f"{name} is damaged: its content has changed"):
            open_store(copy)
        (copy / name).write_bytes(content)
    open_store(copy)


def test_every_missing_file_is_refused_by_name(copy):
    for name in files_of(copy):
        (copy / name).rename(copy / "away")
        with pytest.raises(StoreError, match=f"{name} is missing; import the source again"):
            open_store(copy, verify=False)
        (copy / "away").rename(copy / name)


def test_ranks_share_the_reading_of_all_files(copy):
    name = max(files_of(copy), key=lambda name: (copy / name).stat().st_size)
    flip(copy / name)
    manifest = read_manifest(copy)
    check_sizes(copy, manifest)
    refusing = []
    for rank in range(3):
        try:
            check_content(copy, manifest, rank=rank, n_ranks=3)
        except StoreError:
            refusing.append(rank)
    assert len(refusing) == 1


def test_a_changed_manifest_is_refused(copy):
    text = (copy / MANIFEST).read_text()
    (copy / MANIFEST).write_text(text.replace("PBE/test", "PBE/tust"))
    with pytest.raises(StoreError, match=r"manifest\.json is damaged"):
        open_store(copy)
    (copy / MANIFEST).write_text(text[:200])
    with pytest.raises(StoreError, match=r"manifest\.json is damaged"):
        open_store(copy)


def test_a_newer_layout_is_refused(copy):
    facts = read_sealed(copy / MANIFEST)
    write_sealed(copy / MANIFEST, {**facts, "format": 2})
    with pytest.raises(StoreError, match="has format 2, this version of gfmcalc reads 1; update"):
        open_store(copy)


def test_what_is_no_store_is_said(tmp_path):
    with pytest.raises(StoreError, match=r"is no store: it has no manifest\.json; make one with"):
        open_store(tmp_path)


def test_a_header_that_lies_is_refused_without_reading_the_content(copy):
    """The sizes agree, the type does not: never a wrong number, even unverified."""
    name = "train/00000/energy.npy"
    content = (copy / name).read_bytes().replace(b"<f8", b"<i8")
    (copy / name).write_bytes(content)
    with pytest.raises(StoreError, match="it must be float64"):
        open_store(copy, verify=False)


@pytest.mark.slow
def test_several_processes_read_the_same(imported):
    """As the workers of a loader do: forked or spawned, each opens the store for itself."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        sums = pool.map(sum_of_energies, [imported] * 2)
    assert sums[0] == sums[1] == sum_of_energies(imported)


def test_a_store_that_is_sent_to_a_process_is_opened_there(imported):
    store = open_store(imported)
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    found = pickle.loads(sent).splits["train"].read(np.arange(5))
    assert np.array_equal(found.positions, store.splits["train"].read(np.arange(5)).positions)


def sum_of_energies(folder: Path) -> float:
    train = open_store(folder).splits["train"]
    return float(train.read(np.arange(len(train))[::-1]).energy.sum())


def type_names(array: np.ndarray) -> set[str]:
    names = set()
    base: object = array
    while base is not None:
        names.add(type(base).__name__)
        base = getattr(base, "base", None)
    return names


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_the_manifest_is_plain_json(imported):
    facts = json.loads((imported / MANIFEST).read_text())
    assert facts["radii"] == [3.0, 4.0, 5.0, 6.0]
    assert facts["splits"]["train"]["shards"]["train/00000"]["n_structures"] == 54
