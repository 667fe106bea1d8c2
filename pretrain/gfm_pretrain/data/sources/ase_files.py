"""What ASE itself writes: its databases (SQLite and JSON) and its trajectories."""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from ase import Atoms
from ase.db.jsondb import JSONDatabase
from ase.db.row import AtomsRow
from ase.db.sqlite import SQLite3Database
from ase.io.formats import UnknownFileTypeError
from ase.io.trajectory import TrajectoryReader

from gfm_pretrain.data.sources.ase_row import atoms_of_row
from gfm_pretrain.data.sources.source import Block, Options, Record, Refused, Source
from gfm_pretrain.data.sources.user_file import (
    BLOCKS_PER_PART,
    LABELS,
    UNREADABLE,
    Frame,
    FrameRules,
    describe,
    frame_rules,
    read_frames,
    runs_of,
    unknown_facts,
    user_options,
)


def _database_blocks(path: Path, options: Options) -> Iterator[Block]:
    if path.suffix == ".json":
        return _json_blocks(path, options)
    return _sqlite_blocks(path, options)


def _sqlite_blocks(path: Path, options: Options) -> Iterator[Block]:
    ids = _row_ids(path)
    with _connect(path) as database:
        rules = frame_rules(path, options, _stored_frames(path, database, ids))
    for run, done in runs_of(ids):
        yield Block(read=partial(_read_rows, rules, run), done=done)


def _read_rows(rules: FrameRules, ids: Iterable[int]) -> Iterator[Record | Refused]:
    with _connect(rules.path) as database:
        yield from read_frames(rules, _stored_frames(rules.path, database, ids))


def _stored_frames(path: Path, database: SQLite3Database, ids: Iterable[int]) -> Iterator[Frame]:
    for number in ids:
        yield Frame(place=f"{path.name}:{number}", read=partial(_read_row, database, number))


def _read_row(database: SQLite3Database, number: int) -> Atoms:
    return atoms_of_row(database.get(id=number))


def _row_ids(path: Path) -> list[int]:
    """The ids of all rows, in order; read without ASE, which adds its tables where there are none.

    Raises:
        ValueError: it is no such database, or damaged; SQLite compares its size with what it says.
    """
    address = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            return [
                number for (number,) in connection.execute("SELECT id FROM systems ORDER BY id")
            ]
    except sqlite3.Error as error:
        raise ValueError(f"{path.name} is not a whole ASE database: {describe(error)}") from error


def _connect(path: Path) -> SQLite3Database:
    # serial: under MPI, ASE would read on rank 0 only and wait for the others to ask for the same
    return SQLite3Database(str(path.absolute()), serial=True, use_lock_file=False)


def _json_blocks(path: Path, options: Options) -> Iterator[Block]:
    """Blocks of a database that ASE can only read as a whole."""
    rows = _json_rows(path)
    rules = frame_rules(path, options, _loaded_frames(path, rows))
    for run, done in runs_of(rows):
        yield Block(read=partial(_convert_rows, rules, run), done=done)


def _convert_rows(rules: FrameRules, rows: Iterable[AtomsRow]) -> Iterator[Record | Refused]:
    return read_frames(rules, _loaded_frames(rules.path, rows))


def _loaded_frames(path: Path, rows: Iterable[AtomsRow]) -> Iterator[Frame]:
    for row in rows:
        yield Frame(place=f"{path.name}:{row.id}", read=partial(atoms_of_row, row))


def _json_rows(path: Path) -> list[AtomsRow]:
    database = JSONDatabase(str(path.absolute()), serial=True, use_lock_file=False)
    try:
        return list(database.select())
    except (*UNREADABLE, UnknownFileTypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path.name} is not a whole ASE database: {describe(error)}") from error


def _trajectory_blocks(path: Path, options: Options) -> Iterator[Block]:
    with _open_trajectory(path) as trajectory:
        frames = range(len(trajectory))
        rules = frame_rules(path, options, _trajectory_frames(path, trajectory, frames))
    for run, done in runs_of(frames):
        yield Block(read=partial(_read_trajectory, rules, run), done=done)


def _read_trajectory(rules: FrameRules, numbers: Iterable[int]) -> Iterator[Record | Refused]:
    with _open_trajectory(rules.path) as trajectory:
        yield from read_frames(rules, _trajectory_frames(rules.path, trajectory, numbers))


def _trajectory_frames(
    path: Path, trajectory: TrajectoryReader, numbers: Iterable[int]
) -> Iterator[Frame]:
    for number in numbers:
        read = partial(_read_image, trajectory, number)
        yield Frame(place=f"{path.name}:{number}", read=read)


def _read_image(trajectory: TrajectoryReader, number: int) -> Atoms:
    atoms = trajectory[number]
    assert isinstance(atoms, Atoms)
    return atoms


def _open_trajectory(path: Path) -> TrajectoryReader:
    try:
        return TrajectoryReader(path)
    except UNREADABLE as error:
        raise ValueError(f"{path.name} is not a whole ASE trajectory: {describe(error)}") from error


DATABASES = Source(
    name="ase-db",
    layout="ASE database, SQLite (.db) or JSON (.json), with labels in eV and Å",
    keys={**LABELS, "identifier": "source_id in key_value_pairs or data, else file and row id"},
    facts=unknown_facts,
    blocks=_database_blocks,
    blocks_per_part=BLOCKS_PER_PART,
    options=user_options(group_by="formula"),
)

TRAJECTORIES = Source(
    name="ase-traj",
    layout="ASE trajectory (.traj) with labels in eV and Å",
    keys=LABELS,
    facts=unknown_facts,
    blocks=_trajectory_blocks,
    blocks_per_part=BLOCKS_PER_PART,
    options=user_options(group_by="file"),
)
