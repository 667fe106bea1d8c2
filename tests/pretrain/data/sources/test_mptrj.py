import bz2
import json
from pathlib import Path

import numpy as np
import pytest
from ase import units
from gfm_pretrain.data.sources.mptrj import SOURCE
from gfm_pretrain.data.sources.source import Record, Refused, resolve_options

DEFAULTS = resolve_options(SOURCE, {})


def frame(material: str, x: float = 0.0, **fields: object) -> dict:
    """A frame of rock salt, displaced by `x`, with the keys of the published file."""
    sites = [
        {
            "species": [{"element": element, "occu": 1}],
            "abc": abc,
            "xyz": [4 * c for c in abc],
            "label": element,
            "properties": {"magmom": None},
        }
        for element, abc in (("Mg", [x, 0.0, 0.0]), ("O", [0.5, 0.5, 0.5]))
    ]
    structure = {
        "@module": "pymatgen.core.structure",
        "@class": "Structure",
        "charge": None,
        "lattice": {"matrix": [[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]], "volume": 64.0},
        "sites": sites,
    }
    return {
        "structure": structure,
        "uncorrected_total_energy": -12.5,
        "corrected_total_energy": -13.1875,
        "energy_per_atom": -6.59375,
        "ef_per_atom": -3.0,
        "e_per_atom_relaxed": -6.6,
        "ef_per_atom_relaxed": -3.1,
        "force": [[0.25, 0, 0], [-0.25, 0, 0]],
        "stress": [[20.0, 1.0, 0], [1.0, -5.0, 0], [0, 0, 0]],
        "magmom": None,
        "bandgap": 4.5,
        "mp_id": material,
        **fields,
    }


@pytest.fixture
def file(tmp_path):
    def write(materials: object) -> Path:
        path = tmp_path / "MPtrj_2022.9_full.json"
        path.write_text(json.dumps(materials))
        return path

    return write


def read(path: Path, **options: str) -> list[Record | Refused]:
    """All records of a file."""
    resolved = resolve_options(SOURCE, options)
    return [record for block in SOURCE.blocks(path, resolved) for record in block.read()]


def read_one(path: Path, **options: str) -> Record:
    """The only record of a file."""
    [record] = read(path, **options)
    assert isinstance(record, Record)
    return record


def test_a_frame_is_read_with_its_labels(file):
    record = read_one(file({"mp-1": {"mp-7-0-3": frame("mp-1", 0.125)}}))
    assert (record.identifier, record.group, record.split) == ("mp-7-0-3", "mp-1", None)
    np.testing.assert_array_equal(record.atomic_numbers, [12, 8])
    np.testing.assert_array_equal(record.positions, [[0.5, 0, 0], [2, 2, 2]])
    np.testing.assert_array_equal(record.cell, 4 * np.eye(3))
    assert record.pbc.tolist() == [True, True, True]
    np.testing.assert_array_equal(record.forces, [[0.25, 0, 0], [-0.25, 0, 0]])


def test_compression_is_a_negative_stress(file):
    record = read_one(file({"mp-1": {"mp-1-0-0": frame("mp-1")}}))
    expected = [[-2.0, -0.1, 0], [-0.1, 0.5, 0], [0, 0, 0]]
    assert record.stress is not None
    np.testing.assert_allclose(record.stress, np.array(expected) * units.GPa, rtol=1e-14)


def test_the_uncorrected_energy_is_taken_unless_the_other_is_asked_for(file):
    path = file({"mp-1": {"mp-1-0-0": frame("mp-1")}})
    assert read_one(path).energy == -12.5
    assert read_one(path, energy="uncorrected").energy == -12.5
    assert read_one(path, energy="corrected").energy == -13.1875


def test_the_description_says_which_energy_was_taken():
    uncorrected = SOURCE.facts(DEFAULTS)
    corrected = SOURCE.facts(resolve_options(SOURCE, {"energy": "corrected"}))
    assert "uncorrected" in uncorrected.description
    assert "MP2020" in corrected.description
    assert "uncorrected" not in corrected.description
    assert uncorrected.level_of_theory == "PBE(+U)/VASP (Materials Project)"


def test_frames_of_a_material_come_in_the_order_of_their_trajectories(file):
    published = ["mp-20-0-10", "mp-3-1-0", "mp-20-0-9", "mp-3-0-2", "mp-3-10-0", "mp-3-2-0"]
    path = file({"mp-3": {name: frame("mp-3") for name in published}})
    expected = ["mp-20-0-9", "mp-20-0-10", "mp-3-0-2", "mp-3-1-0", "mp-3-2-0", "mp-3-10-0"]
    assert [record.identifier for record in read(path)] == expected


def test_ids_of_another_form_are_read_too(file):
    path = file({"x": {name: frame("x") for name in ("x-final", "mvc-5-0-1", "mvc-5-0-0")}})
    assert [record.identifier for record in read(path)] == ["mvc-5-0-0", "mvc-5-0-1", "x-final"]


def test_labels_that_are_absent_stay_absent(file):
    bare = frame("mp-1", force=None, stress=None, uncorrected_total_energy=None)
    without = frame("mp-1")
    for key in ("uncorrected_total_energy", "corrected_total_energy", "force", "stress", "magmom"):
        del without[key]
    records = read(file({"mp-1": {"mp-1-0-0": bare, "mp-1-0-1": without}}))
    assert len(records) == 2
    for record in records:
        assert isinstance(record, Record)
        assert (record.energy, record.forces, record.stress) == (None, None, None)


def test_a_broken_frame_is_refused_and_the_others_are_kept(file):
    half = {"element": "Mg", "occu": 0.5}
    disordered = frame("mp-1")
    disordered["structure"]["sites"][0]["species"] = [half, {"element": "Fe", "occu": 0.5}]
    frames = {
        "mp-1-0-0": frame("mp-1", force=[[0, 0, 0]]),
        "mp-1-0-1": disordered,
        "mp-1-0-2": {"force": []},
        "mp-1-0-3": 5,
        "mp-1-0-4": frame("mp-1"),
        "mp-1-0-5": frame("mp-1", stress=[1, 2, 3, 4, 5, 6]),
        "mp-1-0-6": frame("mp-1", uncorrected_total_energy="low"),
    }
    *records, material = read(file({"mp-1": frames, "mp-2": [1, 2]}))
    reasons = {
        record.identifier: record.reason for record in records if isinstance(record, Refused)
    }
    assert list(reasons) == [name for name in frames if name != "mp-1-0-4"]
    assert "`force" in reasons["mp-1-0-0"]
    assert "[2, 3], got [1, 3]" in reasons["mp-1-0-0"]
    assert "occupied by one species" in reasons["mp-1-0-1"]
    assert reasons["mp-1-0-2"] == "the frame has no `structure`"
    assert "got int" in reasons["mp-1-0-3"]
    assert "`stress` must have shape [3, 3]" in reasons["mp-1-0-5"]
    assert "`energy`" in reasons["mp-1-0-6"]
    assert isinstance(material, Refused)
    assert (material.identifier, material.kind) == ("mp-2", "unreadable")
    assert "got list" in material.reason


def test_a_block_is_one_material_and_can_be_read_in_any_order(file):
    path = file({f"mp-{n}": {f"mp-{n}-0-{s}": frame("") for s in range(n)} for n in (1, 2, 3)})
    blocks = list(SOURCE.blocks(path, DEFAULTS))
    for n, block in reversed(list(enumerate(blocks, start=1))):
        for _ in range(2):
            found = [(r.group, r.identifier) for r in block.read() if isinstance(r, Record)]
            assert found == [(f"mp-{n}", f"mp-{n}-0-{s}") for s in range(n)]
    done = [block.done for block in blocks]
    assert done == sorted(done)
    assert done[-1] == 1.0


def test_a_compressed_file_gives_the_same(file, tmp_path):
    path = file({"mp-1": {"mp-1-0-0": frame("mp-1", 0.25)}})
    compressed = tmp_path / "MPtrj.json.bz2"
    compressed.write_bytes(bz2.compress(path.read_bytes()))
    np.testing.assert_array_equal(read_one(compressed).positions, read_one(path).positions)


def test_a_truncated_file_is_named_in_one_line(file):
    path = file({"mp-1": {"mp-1-0-0": frame("mp-1")}, "mp-2": {"mp-2-0-0": frame("mp-2")}})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"MPtrj_2022.9_full.json is damaged") as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        {"entries": [{"structure": {}, "data": {}}]},
        {"agm1": [{"steps": []}]},
        {"agm1": {"steps": [frame("")]}},
        {"mp-1": frame("mp-1")},
        {"mp-1": {}},
    ],
)
def test_a_file_of_another_layout_is_no_mptrj(file, value):
    with pytest.raises(ValueError, match=r"full\.json is not of MPtrj: it must map material"):
        read(file(value))


def test_a_list_is_no_mptrj(file):
    with pytest.raises(ValueError, match=r"full\.json must hold a JSON object, found array"):
        read(file([frame("mp-1")]))
