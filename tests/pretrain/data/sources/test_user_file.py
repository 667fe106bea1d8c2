import sqlite3
from pathlib import Path

import pytest
from ase import Atoms
from gfm_pretrain.data.sources.source import Options, Record, Refused
from gfm_pretrain.data.sources.user_file import (
    Frame,
    frame_rules,
    read_frames,
    runs_of,
    user_options,
)

OPTIONS: Options = {
    **dict.fromkeys(user_options(group_by="formula"), ""),
    "group_by": "formula",
    "split_by": "group",
}


def good() -> Atoms:
    return Atoms("H", info={"energy": -1.0})


def failing_with(error: Exception) -> Frame:
    def read() -> Atoms:
        raise error

    return Frame(place="set.xyz:1", read=read)


def test_a_damaged_frame_is_refused_but_a_file_out_of_reach_is_an_error():
    first = Frame(place="set.xyz:0", read=good)
    rules = frame_rules(Path("set.xyz"), OPTIONS, [failing_with(OSError("not a frame")), first])
    record, refused = read_frames(rules, [first, failing_with(OSError("not a\nframe"))])
    assert isinstance(record, Record)
    assert isinstance(refused, Refused)
    assert refused.reason == "not a frame"
    for error in (OSError(5, "Input/output error"), sqlite3.OperationalError("locked")):
        with pytest.raises(type(error), match=r"error|locked"):
            list(read_frames(rules, [failing_with(error)]))
        with pytest.raises(type(error), match=r"error|locked"):
            frame_rules(Path("set.xyz"), OPTIONS, [failing_with(error), first])


@pytest.mark.parametrize("group_by", ["formula", "file"])
def test_the_default_group_comes_first_and_is_said(group_by):
    option = user_options(group_by=group_by)["group_by"]
    assert option.choices[0] == group_by
    assert set(option.choices) == {"formula", "file", "frame"}
    assert option.help.endswith(f"default {group_by}")


def test_runs_make_up_the_whole():
    runs = list(runs_of(range(600)))
    assert [number for run, _ in runs for number in run] == list(range(600))
    assert [(len(run), done) for run, done in runs] == [(256, 256 / 600), (256, 512 / 600), (88, 1)]
