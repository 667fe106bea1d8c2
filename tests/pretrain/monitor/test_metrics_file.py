import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from gfm_pretrain.monitor.metrics_file import MetricsFile, read_metrics


class Opened:
    """A metrics file and what it complained of."""

    def __init__(self, run: Path) -> None:
        self.said: list[str] = []
        self.file = MetricsFile(run, complain=self.said.append)

    def rewind(self, step: int) -> list[dict]:
        kept: list[dict] = []
        self.file.rewind(step, visit=lambda record: kept.append(dict(record)))
        return kept

    def append(self, kind: str, step: int, **values) -> None:
        self.file.append({"kind": kind, "step": step, **values})


def steps_in(path: Path) -> list[tuple[str, int]]:
    return [(record["kind"], record["step"]) for record in read_metrics(path)]


@pytest.fixture
def opened_in() -> Iterator[Callable[[Path], Opened]]:
    """Opens metrics files, and closes them at the end."""
    opened: list[Opened] = []

    def open_in(run: Path) -> Opened:
        opened.append(Opened(run))
        return opened[-1]

    yield open_in
    for one in opened:
        one.file.close()


@pytest.fixture
def written(tmp_path, opened_in) -> Path:
    """Metrics of a run that was killed in its sixth step, after a snapshot at the fourth."""
    opened = opened_in(tmp_path)
    opened.append("run", 0)
    opened.append("before", 0, heads={})
    for step in range(1, 6):
        opened.append("train", step, losses={"ä": 0.5})
        if step == 4:
            opened.append("valid", step, heads={})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')
    return tmp_path


def test_a_line_is_in_the_file_at_once_and_as_it_was(tmp_path, opened_in):
    opened = opened_in(tmp_path)
    opened.append("train", 1, seconds=0.1 + 0.2, losses={"ä": 1e-30})
    line = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8")
    assert line.endswith("}\n")
    assert "ä" in line
    assert json.loads(line) == {
        "kind": "train",
        "step": 1,
        "seconds": 0.1 + 0.2,
        "losses": {"ä": 1e-30},
    }


def test_what_is_not_finite_is_null(tmp_path, opened_in):
    opened_in(tmp_path).append("train", 1, losses={"a": float("nan"), "b": 1.0}, of=[float("inf")])
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["losses"] == {"a": None, "b": 1.0}
    assert '"of": [null]' in text


def test_lines_after_the_snapshot_are_moved_out(written, opened_in):
    opened = opened_in(written)
    kept = opened.rewind(4)
    assert [(r["kind"], r["step"]) for r in kept] == steps_in(written / "metrics.jsonl")
    assert kept[-1] == {"kind": "valid", "step": 4, "heads": {}}
    undone = (written / "metrics-undone.jsonl").read_text().splitlines()
    assert json.loads(undone[0])["step"] == 5
    assert undone[1] == '{"kind": "train", "st'
    opened.append("train", 5, losses={"ä": 0.25})
    steps = [step for kind, step in steps_in(written / "metrics.jsonl") if kind == "train"]
    assert steps == [1, 2, 3, 4, 5]
    opened_in(written).rewind(3)
    assert len((written / "metrics-undone.jsonl").read_text().splitlines()) == 5


def test_a_line_that_was_cut_by_a_kill_goes_even_if_nothing_is_done_again(written, opened_in):
    opened_in(written).rewind(5)
    assert steps_in(written / "metrics.jsonl")[-1] == ("train", 5)
    assert (written / "metrics.jsonl").read_bytes().endswith(b"}\n")


def test_an_evaluation_is_not_written_twice(written, opened_in):
    opened = opened_in(written)
    opened.rewind(5)
    before = steps_in(written / "metrics.jsonl")
    opened.append("valid", 4, heads={"a": {}})
    opened.append("before", 0, heads={"a": {}})
    assert steps_in(written / "metrics.jsonl") == before
    opened.append("test", 5, heads={})
    opened.append("test", 5, heads={})
    assert steps_in(written / "metrics.jsonl") == [*before, ("test", 5)]


def test_without_a_file_there_is_nothing_to_rewind(tmp_path, opened_in):
    assert opened_in(tmp_path).rewind(3) == []
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_line_is_named(written):
    path = written / "metrics.jsonl"
    path.write_text(path.read_text() + "\n" + '{"kind": "train", "step": 6}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 9: not a line of metrics"):
        list(read_metrics(path))


@contextmanager
def files_no_larger_than(n_bytes: int) -> Iterator[None]:
    """As on a full disk, writes beyond fail, and may do a part before they do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_once_and_loses_nothing(tmp_path, opened_in):
    opened = opened_in(tmp_path)
    opened.append("train", 1)
    path = tmp_path / "metrics.jsonl"
    before = path.read_bytes()
    with files_no_larger_than(len(before) + 10):
        for step in (2, 3, 4):
            opened.append("train", step)
        assert path.read_bytes() == before
    assert len(opened.said) == 1
    assert opened.said[0].startswith(f"cannot write {path}: File too large; training goes on")
    assert "from step 2 are kept in memory" in opened.said[0]
    opened.append("train", 5)
    assert steps_in(path) == [("train", step) for step in range(1, 6)]
    assert opened.said[1:] == [f"{path} is written again"]


def test_memory_for_lines_that_wait_is_bounded(tmp_path, monkeypatch, opened_in):
    monkeypatch.setattr("gfm_pretrain.monitor.metrics_file.MOST_PENDING", 2)
    opened = opened_in(tmp_path)
    opened.append("train", 1)
    with files_no_larger_than(0):
        for step in (2, 3, 4, 5):
            opened.append("train", step)
    opened.append("train", 6)
    assert [step for _, step in steps_in(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    assert opened.said[-1].endswith("is written again; 3 lines were lost")


def test_a_folder_that_is_gone_is_told(tmp_path, opened_in):
    opened = opened_in(tmp_path / "gone")
    opened.append("train", 1)
    assert "No such file or directory; training goes on" in opened.said[0]
