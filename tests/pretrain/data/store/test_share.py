"""One copy of a store for all processes of a node."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from gfm_pretrain.data.shard import COLUMNS
from gfm_pretrain.data.store import share
from gfm_pretrain.data.store.share import share_store
from gfm_pretrain.data.store.store import open_store
from launch import launch
from worlds import ALONE

TESTS = Path(__file__).resolve().parents[2]
PROGRAM = TESTS / "programs" / "share_program.py"


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells where memory lies")
def test_ranks_of_a_node_see_one_memory(imported):
    ended = launch(PROGRAM, str(imported), n_ranks=3)
    assert ended.returncode == 0, ended.stderr
    ranks = json.loads(ended.stdout)
    train = open_store(imported).splits["train"]
    columns = train.read(np.arange(len(train)))
    assert sum(rank["energy"] for rank in ranks) == pytest.approx(columns.energy.sum(), rel=1e-12)
    forces = np.abs(columns.forces).sum()
    assert sum(rank["forces"] for rank in ranks) == pytest.approx(forces, rel=1e-12)
    permissions = {rank["mapping"][0] for rank in ranks}
    inodes = {rank["mapping"][1] for rank in ranks}
    assert permissions == {"rw-s"}
    assert len(inodes) == 1
    assert inodes != {0}
    assert not any(rank["writeable"] for rank in ranks)


@pytest.mark.mpi
@pytest.mark.slow
def test_ranks_without_mpi_are_told_so(imported):
    ended = launch(PROGRAM, str(imported), n_ranks=2, launcher="torchrun")
    assert ended.returncode != 0
    assert "stage: shared needs ranks started by mpiexec" in ended.stderr
    assert "use stage: mapped" in ended.stderr


def test_one_process_alone_has_it_in_its_own_memory(imported):
    store = open_store(imported)
    shared = share_store(store, ALONE)
    for split, structures in shared.splits.items():
        for shard, mapped in zip(structures.shards, store.splits[split].shards, strict=True):
            for column in COLUMNS:
                found, stored = getattr(shard, column), getattr(mapped, column)
                assert np.array_equal(found, stored, equal_nan=found.dtype.kind == "f")
                assert not np.shares_memory(found, stored)
            assert shard.positions.ctypes.data % share.ALIGNMENT == 0


def test_too_little_room_is_said_before_it_is_filled(imported, tmp_path):
    with patch.object(share, "SHARED_FOLDER", tmp_path):
        assert share._missing_room(1) is None
        assert "enlarge it, or use stage: mapped" in str(share._missing_room(10**18))


def test_torchrun_is_refused(imported):
    world = replace(ALONE, size=2, launcher="torchrun")
    with pytest.raises(ValueError, match="these were started by torchrun"):
        share_store(open_store(imported), world)
