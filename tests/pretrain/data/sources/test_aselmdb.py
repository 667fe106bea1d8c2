from pathlib import Path

import lmdb
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase_db_backends.aselmdb import LMDBDatabase
from gfm_pretrain.data.sources.aselmdb import SOURCE
from gfm_pretrain.data.sources.source import Block, Record, Refused, resolve_options


def blocks_of(path: Path, **options: str) -> list[Block]:
    return list(SOURCE.blocks(path, resolve_options(SOURCE, options)))


def records_of(path: Path, **options: str) -> list[Record | Refused]:
    return [record for block in blocks_of(path, **options) for record in block.read()]


def copper(strain: float):
    atoms = bulk("Cu", "fcc", 3.6 * (1 + strain), cubic=True)
    atoms.rattle(0.05, seed=0)
    atoms.set_constraint(FixAtoms([0]))
    atoms.calc = EMT()
    atoms.get_stress()
    return atoms


@pytest.fixture
def file(tmp_path) -> Path:
    """Three crystals as fairchem writes them, what it knows of them in `data`; row 2 deleted."""
    path = tmp_path / "data.0000.aselmdb"
    database = LMDBDatabase(path)
    for i in range(4):
        database.write(copper(0.01 * i), data={"sid": f"agm{i // 2}", "fid": i})
    database.delete([2])
    database.close()
    path.with_name(path.name + "-lock").unlink()
    return path


def test_rows_with_labels(file):
    records = records_of(file)
    names = [f"data.0000.aselmdb:{i}" for i in (1, 3, 4)]
    assert [record.identifier for record in records] == names
    for record, strain in zip(records, (0.0, 0.02, 0.03), strict=True):
        assert isinstance(record, Record)
        atoms = copper(strain)
        np.testing.assert_array_equal(record.atomic_numbers, atoms.numbers)
        np.testing.assert_allclose(record.positions, atoms.positions, rtol=1e-14)
        np.testing.assert_allclose(record.cell, atoms.cell.array, rtol=1e-14)
        assert record.pbc.all()
        assert record.group == "Cu4"
        assert record.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
        forces = atoms.get_forces(apply_constraint=False)
        assert record.forces is not None
        assert record.stress is not None
        np.testing.assert_allclose(record.forces, forces, atol=1e-12)
        np.testing.assert_allclose(record.stress, atoms.get_stress(voigt=False), atol=1e-12)


def test_group_key_is_in_the_data(file):
    groups = [r.group for r in records_of(file, group_key="sid") if isinstance(r, Record)]
    assert groups == ["agm0", "agm1", "agm1"]


def test_the_file_is_opened_for_reading_only(file):
    file.chmod(0o400)
    before = file.read_bytes()
    assert len(records_of(file)) == 3
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("part", [0.5, 0.9])
def test_a_file_that_was_cut_off_is_refused(file, part):
    """LMDB opens it and ends the process with SIGBUS at the first page that is missing."""
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * part)])
    message = (
        rf"data\.0000\.aselmdb is cut off: it has {file.stat().st_size} bytes of {len(content)}"
    )
    with pytest.raises(ValueError, match=message):
        blocks_of(file)


def test_other_files_are_refused(file):
    file.write_bytes(b"x" * 9000)
    with pytest.raises(ValueError, match=r"data\.0000\.aselmdb is not an LMDB file: "):
        blocks_of(file)
    file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"data\.0000\.aselmdb: the file is empty"):
        blocks_of(file)


def test_an_lmdb_file_of_another_kind_is_refused(tmp_path):
    """Such as the pickled graphs of older releases, which must not be unpickled."""
    path = tmp_path / "data.lmdb"
    with lmdb.open(str(path), subdir=False) as pages, pages.begin(write=True) as transaction:
        transaction.put(b"0", b"a pickle")
    with pytest.raises(ValueError, match=r"data\.lmdb has no rows as ase-db-backends writes them"):
        blocks_of(path)


def test_a_damaged_row_is_refused_and_the_others_are_not(file):
    with lmdb.open(str(file), subdir=False) as pages, pages.begin(write=True) as transaction:
        transaction.put(b"3", b"damaged")
    first, bad, last = records_of(file)
    assert isinstance(first, Record)
    assert isinstance(bad, Refused)
    assert isinstance(last, Record)
    assert (bad.identifier, bad.kind) == ("data.0000.aselmdb:3", "unreadable")


def test_rows_are_read_in_blocks(tmp_path):
    path = tmp_path / "set.aselmdb"
    with LMDBDatabase(path) as database:
        for i in range(260):
            database.write(molecule("CO"), data={"energy": -1.0 * i})
    blocks = blocks_of(path)
    assert [block.done for block in blocks] == [256 / 260, 1.0]
    last = [r for r in blocks[1].read() if isinstance(r, Record)]
    assert [(r.identifier, r.energy) for r in last[:1]] == [("set.aselmdb:257", -256.0)]
