"""ASE databases in LMDB files, as OMat24, OC20, OMol25 and sAlex are published."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import lmdb
from ase import Atoms
from ase_db_backends.aselmdb import LMDBDatabase

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


def _blocks(path: Path, options: Options) -> Iterator[Block]:
    _check_whole(path)
    with closing(_open(path)) as database:
        ids = list(database.ids)
        if not ids:
            raise ValueError(f"{path.name} has no rows as ase-db-backends writes them")
        rules = frame_rules(path, options, _frames(path, database, ids))
    for run, done in runs_of(ids):
        yield Block(read=partial(_read_block, rules, run), done=done)


def _read_block(rules: FrameRules, ids: Iterable[int]) -> Iterator[Record | Refused]:
    with closing(_open(rules.path)) as database:
        yield from read_frames(rules, _frames(rules.path, database, ids))


def _frames(path: Path, database: LMDBDatabase, ids: Iterable[int]) -> Iterator[Frame]:
    for number in ids:
        yield Frame(place=f"{path.name}:{number}", read=partial(_read_row, database, number))


def _read_row(database: LMDBDatabase, number: int) -> Atoms:
    try:
        return atoms_of_row(database.get(id=number))
    except lmdb.Error as error:
        raise ValueError(describe(error)) from error


def _open(path: Path) -> LMDBDatabase:
    try:
        return LMDBDatabase(path, use_lock_file=False, readonly=True)
    except (*UNREADABLE, lmdb.Error) as error:
        raise ValueError(f"{path.name} is not an ASE database: {describe(error)}") from error


def _check_whole(path: Path) -> None:
    """Check that the file has all the pages that it says it has.

    LMDB maps the file into memory and opens one that was cut off, but ends the process with SIGBUS
    at the first page that is not there. Opening reads the first two pages only, which say how many
    there are.

    Raises:
        ValueError: pages are missing, or it is no LMDB file.
    """
    size = path.stat().st_size
    if not size:
        raise ValueError(f"{path.name}: the file is empty")
    try:
        with lmdb.open(str(path), subdir=False, readonly=True, lock=False, create=False) as pages:
            needed = (pages.info()["last_pgno"] + 1) * pages.stat()["psize"]
    except lmdb.Error as error:
        raise ValueError(f"{path.name} is not an LMDB file: {describe(error)}") from error
    if size < needed:
        raise ValueError(
            f"{path.name} is cut off: it has {size} bytes of {needed}; download or copy it again"
        )


SOURCE = Source(
    name="aselmdb",
    layout="ASE database in LMDB (.aselmdb: OMat24, OC20, OMol25, sAlex), labels in eV and Å",
    keys={**LABELS, "identifier": "source_id in key_value_pairs or data, else file and row id"},
    facts=unknown_facts,
    blocks=_blocks,
    blocks_per_part=BLOCKS_PER_PART,
    options=user_options(group_by="formula"),
)
