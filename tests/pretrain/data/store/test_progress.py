"""How far an import is, from what its processes have finished."""

import time

import pytest
from gfm_pretrain.data.store.parts import PART
from gfm_pretrain.data.store.progress import PartsDone, Rate, duration
from gfm_pretrain.durable import UNFINISHED, write_sealed


def finish_part(folder, name: str, *, n_structures: int, done: float) -> None:
    (folder / name).mkdir()
    facts = {"n_structures": n_structures, "done": done, "audit": {}, "shards": {}}
    write_sealed(folder / name / PART, facts)


def test_parts_add_up_and_files_count_by_their_size(tmp_path):
    parts = PartsDone(tmp_path, (100, 300))
    parts.look()
    assert (parts.n_structures, parts.fraction) == (0, 0.0)
    finish_part(tmp_path, "00000-000000", n_structures=10, done=0.5)
    finish_part(tmp_path, "00001-000000", n_structures=20, done=0.2)
    (tmp_path / f"00001-000001{UNFINISHED}").mkdir()
    parts.look()
    assert parts.n_structures == 30
    assert parts.fraction == pytest.approx((0.5 * 100 + 0.2 * 300) / 400)
    finish_part(tmp_path, "00000-000001", n_structures=5, done=1.0)
    parts.look()
    parts.look()
    assert parts.n_structures == 35
    assert parts.fraction == pytest.approx((1.0 * 100 + 0.2 * 300) / 400)


def test_rate_and_time_left_are_those_of_this_session(tmp_path):
    """A quarter was there before; in 100 seconds as much again: 200 are left for the rest."""
    parts = PartsDone(tmp_path, (1000,))
    finish_part(tmp_path, "00000-000000", n_structures=7000, done=0.25)
    parts.look()
    rate = Rate(n_structures=7000, fraction=0.25, seconds=time.monotonic() - 100)
    assert rate.describe(parts) == "7,000 structures"
    finish_part(tmp_path, "00000-000001", n_structures=5000, done=0.5)
    parts.look()
    assert rate.describe(parts) == "12,000 structures, 50/s, 0:03:20 left"


def test_durations_are_in_hours():
    assert duration(3725.4) == "1:02:05"
    assert duration(0) == "0:00:00"
