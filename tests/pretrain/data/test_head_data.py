"""What is said of a head, and what is wrong with its files."""

from dataclasses import replace

import numpy as np
import pytest
from gfm_pretrain.data.heads import read_head
from gfm_pretrain.head_options import HeadOptions

FRAME = """2
{} pbc="F F F" Properties=species:S:1:pos:R:3:forces:R:3
{} 0.0 0.0 0.0 0.1 0.0 0.0
H 0.0 0.0 {} -0.1 0.0 0.0
"""


def frame(symbol: str, distance: float, energy: float | None) -> str:
    return FRAME.format("" if energy is None else f"energy={energy}", symbol, distance)


@pytest.fixture
def options(tmp_path) -> HeadOptions:
    """Hydrogen molecules and hydroxyls, of which the hydroxyls have no energy."""
    frames = [frame("H", 0.7, -1.0), frame("H", 0.8, -1.1), frame("O", 1.0, None)]
    (tmp_path / "train.extxyz").write_text("".join(frames))
    return HeadOptions(train=str(tmp_path / "train.extxyz"), level_of_theory="PBE")


def test_reference_energies_of_absent_elements_are_left_out(options):
    given = {"H": -0.4, "C": -1000.0, "O": -2000.0}
    summary, _ = read_head("a", replace(options, reference_energies=given), cutoff=3.0)
    assert summary.config.reference_energies == {"H": -0.4, "O": -2000.0}
    assert summary.config.elements == ("H", "O")


def test_an_element_without_energies_is_named(options):
    with pytest.raises(ValueError, match=r"head 'a': no structure with O has an energy .*; give"):
        read_head("a", options, cutoff=3.0)


def test_a_label_that_is_not_there_is_named(options):
    wanted = replace(options, labels=("energy", "forces", "stress"))
    with pytest.raises(ValueError, match=r"head 'a': .* label 'stress' .* \['energy', 'forces'\]"):
        read_head("a", wanted, cutoff=3.0)


def test_an_element_that_was_not_trained_on_names_the_structure(options, tmp_path):
    (tmp_path / "valid.extxyz").write_text(frame("N", 1.0, -3.0))
    judged = replace(options, valid=str(tmp_path / "valid.extxyz"), reference_energies=GIVEN)
    with pytest.raises(
        ValueError, match=r"valid\.extxyz:0 in the valid set: head 'a' does not know"
    ):
        read_head("a", judged, cutoff=3.0)


GIVEN = {"H": -0.4, "O": -2000.0}


def test_the_files_are_known_by_their_sha256(options):
    summary, data = read_head("a", replace(options, reference_energies=GIVEN), cutoff=3.0)
    assert summary.files["train"]["path"] == options.train
    assert len(summary.files["train"]["sha256"]) == 64
    index = summary.indices["train"]
    assert index.labelled(np.arange(3)).tolist() == [[1, 2, 0], [1, 2, 0], [0, 2, 0]]
    assert summary.config.labels == ("energy", "forces")
    assert len(data["train"]) == len(index) == 3


def test_runs_of_neighbours_are_set_aside_and_single_atoms_stay(tmp_path):
    """2000 frames of a trajectory: 200 of them in ten runs of twenty."""
    frames = [frame("H", 0.7 + 1e-5 * i, -1.0 - 1e-5 * i) for i in range(2000)]
    atom = '1\npbc="F F F" energy=-0.4 Properties=species:S:1:pos:R:3\nH 0 0 0\n'
    (tmp_path / "train.extxyz").write_text(atom + "".join(frames))
    options = HeadOptions(
        train=str(tmp_path / "train.extxyz"), valid_fraction=0.1, level_of_theory="PBE"
    )
    _, sets = read_head("a", options, cutoff=3.0)
    frames_of = {
        split: [int(s.identifier.split(":")[1]) for s in structures.structures()]
        for split, structures in sets.items()
    }
    assert len(frames_of["valid"]) == 200
    assert 0 in frames_of["train"]
    assert sorted(frames_of["train"] + frames_of["valid"]) == list(range(2001))
    assert np.count_nonzero(np.diff(frames_of["valid"]) > 1) <= 10
    _, again = read_head("a", options, cutoff=3.0)
    assert again["valid"].identifier(7) == sets["valid"].identifier(7)
