from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.db.jsondb import JSONDatabase
from ase.db.sqlite import SQLite3Database
from ase.io import write
from gfm_pretrain.data.sources.ase_files import DATABASES, TRAJECTORIES
from gfm_pretrain.data.sources.source import Block, Record, Refused, Source, resolve_options


def blocks_of(source: Source, path: Path, **options: str) -> list[Block]:
    return list(source.blocks(path, resolve_options(source, options)))


def records_of(source: Source, path: Path, **options: str) -> list[Record | Refused]:
    return [record for block in blocks_of(source, path, **options) for record in block.read()]


def copper(strain: float) -> Atoms:
    """A crystal with energy, forces and stress of an ASE calculator, one atom held fixed."""
    atoms = bulk("Cu", "fcc", 3.6 * (1 + strain), cubic=True)
    atoms.rattle(0.05, seed=0)
    atoms.set_constraint(FixAtoms([0]))
    atoms.calc = EMT()
    atoms.get_stress()
    return atoms


def water(energy: float) -> Atoms:
    atoms = molecule("H2O")
    atoms.calc = SinglePointCalculator(atoms, energy=energy)
    return atoms


def open_database(path: Path) -> SQLite3Database | JSONDatabase:
    kind = JSONDatabase if path.suffix == ".json" else SQLite3Database
    return kind(str(path), use_lock_file=False)


def check_copper(record: Record | Refused, atoms: Atoms) -> None:
    """Against ASE itself; the forces are those of the calculator, on the fixed atom too."""
    assert isinstance(record, Record)
    np.testing.assert_array_equal(record.atomic_numbers, atoms.numbers)
    np.testing.assert_allclose(record.positions, atoms.positions, rtol=1e-14)
    np.testing.assert_allclose(record.cell, atoms.cell.array, rtol=1e-14)
    assert record.pbc.all()
    assert record.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
    forces = atoms.get_forces(apply_constraint=False)
    assert np.abs(forces[0]).max() > 0.01
    assert record.forces is not None
    assert record.stress is not None
    np.testing.assert_allclose(record.forces, forces, atol=1e-12)
    np.testing.assert_allclose(record.stress, atoms.get_stress(voigt=False), atol=1e-12)


@pytest.fixture(params=["db", "json"])
def database(request, tmp_path) -> Path:
    """Two crystals, a deleted row and two molecules."""
    path = tmp_path / f"set.{request.param}"
    with open_database(path) as rows:
        rows.write(copper(0.0), origin="a", data={"source_id": "mine:1"})
        rows.write(copper(0.01), origin="a")
        rows.write(copper(0.02), origin="a")
        rows.write(water(-14.0), origin="b", data={"REF_energy": -15.0})
        rows.write(molecule("CO"), origin="b")
        rows.delete([2])
    return path


def test_rows_of_a_database(database):
    records = records_of(DATABASES, database, energy_key="energy")
    name = database.name
    assert [r.identifier for r in records] == ["mine:1", *(f"{name}:{i}" for i in (3, 4, 5))]
    check_copper(records[0], copper(0.0))
    check_copper(records[1], copper(0.02))
    assert [r.group for r in records if isinstance(r, Record)] == ["Cu4", "Cu4", "H2O", "CO"]
    assert [r.energy for r in records[2:] if isinstance(r, Record)] == [-14.0, None]


def test_labels_in_the_data_of_a_row(database):
    """Found like those in `info`; REF_ keys win."""
    records = records_of(DATABASES, database)
    assert [r.energy for r in records if isinstance(r, Record)] == [None, None, -15.0, None]


def test_group_key_is_a_key_value_pair(database):
    records = records_of(DATABASES, database, group_key="origin")
    assert [r.group for r in records if isinstance(r, Record)] == ["a", "a", "b", "b"]


def test_rows_are_read_in_blocks(tmp_path):
    path = tmp_path / "set.db"
    with open_database(path) as rows:
        for i in range(260):
            rows.write(Atoms("H", calculator=SinglePointCalculator(Atoms("H"), energy=-i)))
    blocks = blocks_of(DATABASES, path)
    assert [block.done for block in blocks] == [256 / 260, 1.0]
    assert [r.identifier for r in blocks[1].read()] == [f"set.db:{i}" for i in range(257, 261)]
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_databases_are_refused(database):
    content = database.read_bytes()
    database.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"{database.name} is not a whole ASE database: "):
        blocks_of(DATABASES, database)
    database.write_bytes(b"[1, 2]")
    with pytest.raises(ValueError, match=rf"{database.name} is not a whole ASE database: "):
        blocks_of(DATABASES, database)


def test_another_sqlite_file_stays_as_it_is(tmp_path):
    path = tmp_path / "empty.db"
    path.touch()
    with pytest.raises(ValueError, match=r"empty\.db is not a whole ASE database: no such table"):
        blocks_of(DATABASES, path)
    assert path.stat().st_size == 0


def test_a_damaged_row_is_refused_and_the_others_are_not(tmp_path):
    path = tmp_path / "set.json"
    with open_database(path) as rows:
        rows.write(water(-14.0))
        rows.write(water(-14.1))
    path.write_text(path.read_text().replace("-14.1", '"unknown"'))
    good, bad = records_of(DATABASES, path)
    assert isinstance(good, Record)
    assert isinstance(bad, Refused)
    assert (bad.identifier, bad.kind) == ("set.json:2", "unreadable")


def test_images_of_a_trajectory(tmp_path):
    path = tmp_path / "run.traj"
    images = [copper(0.01 * i) for i in range(3)]
    images[1].info["source_id"] = "mine:1"
    write(path, images)
    records = records_of(TRAJECTORIES, path)
    assert [r.identifier for r in records] == ["run.traj:0", "mine:1", "run.traj:2"]
    for record, atoms in zip(records, images, strict=True):
        check_copper(record, atoms)
    [group] = {r.group for r in records if isinstance(r, Record)}
    assert group.endswith("/run.traj")
    by_formula = records_of(TRAJECTORIES, path, group_by="formula")
    assert {r.group for r in by_formula if isinstance(r, Record)} == {"Cu4"}


def test_a_trajectory_of_different_molecules_is_read_in_blocks(tmp_path):
    path = tmp_path / "run.traj"
    write(path, [water(-i) if i % 2 else Atoms("H") for i in range(260)])
    blocks = blocks_of(TRAJECTORIES, path)
    assert [block.done for block in blocks] == [256 / 260, 1.0]
    last = [r for r in blocks[1].read() if isinstance(r, Record)]
    assert [(len(r.positions), r.energy) for r in last] == [
        (1, None),
        (3, -257),
        (1, None),
        (3, -259),
    ]


def test_a_trajectory_that_was_cut_off(tmp_path):
    path = tmp_path / "run.traj"
    write(path, [water(-i) for i in range(4)])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    records = records_of(TRAJECTORIES, path)
    assert isinstance(records[0], Record)
    assert isinstance(records[-1], Refused)
    assert (records[-1].identifier, records[-1].kind) == ("run.traj:3", "unreadable")
    for rest in (content[:100], b"nothing of the kind" * 10, b""):
        path.write_bytes(rest)
        with pytest.raises(ValueError, match=r"run\.traj is not a whole ASE trajectory: "):
            blocks_of(TRAJECTORIES, path)


def test_nothing_to_learn_from(tmp_path):
    write(tmp_path / "run.traj", [molecule("CO")])
    with pytest.raises(ValueError, match=r"run\.traj: no structure has an energy or forces"):
        blocks_of(TRAJECTORIES, tmp_path / "run.traj")
    with open_database(tmp_path / "set.db") as rows:
        rows.write(molecule("CO"), origin="b")
    with pytest.raises(ValueError, match=r"set\.db: no structure has .*; its keys are origin"):
        blocks_of(DATABASES, tmp_path / "set.db")
