import bz2
import gzip
import lzma
from pathlib import Path

import numpy as np
import pytest
from ase.io import write
from gfm_pretrain.data.extxyz import read_extxyz
from gfm_pretrain.data.labels import LabelKeys
from gfm_pretrain.data.structure import to_atoms

CELL = 'Lattice="4 0 0 0 5 0 0 0 6" pbc="T T T"'
FORCES = "Properties=species:S:1:pos:R:3:{}:R:3"


def frame(comment: str, *columns: str) -> str:
    """Text of a water-like O–H pair with further columns per atom."""
    rows = [*columns, "", ""]
    return f"2\n{comment}\nO 0.0 0.0 0.0 {rows[0]}\nH 0.0 0.0 0.96 {rows[1]}\n"


@pytest.fixture
def file(tmp_path):
    def write_text(*frames: str) -> Path:
        path = tmp_path / "set.xyz"
        path.write_text("".join(frames))
        return path

    return write_text


def test_labels_that_ase_moves_into_the_calculator_are_found(file):
    path = file(frame(f"{FORCES.format('forces')} energy=-5", "1 2 3", "-1 -2 -3"))
    [structure], table = read_extxyz(path)
    assert structure.energy == -5.0
    np.testing.assert_array_equal(structure.forces, [[1, 2, 3], [-1, -2, -3]])
    np.testing.assert_array_equal(structure.atomic_numbers, [8, 1])
    np.testing.assert_array_equal(structure.positions, [[0, 0, 0], [0, 0, 0.96]])
    assert not structure.pbc.any()
    assert not structure.cell.any()
    assert structure.stress is None
    assert table.rows() == [
        ("energy", "energy", "1 of 1", "-"),
        ("forces", "forces", "1 of 1", "-"),
        ("stress", "-", "0 of 1", "-"),
    ]


def test_ref_keys_win_and_the_others_are_reported(file):
    properties = f"{FORCES.format('REF_forces')}:forces:R:3"
    comment = f"{properties} REF_energy=-6.5 energy=-5.5 {CELL}"
    stresses = ' REF_stress="1 2 3 4 5 6" stress="0 0 0 0 0 0 0 0 0" virial="9 9 9 9 9 9 9 9 9"'
    path = file(frame(comment + stresses, "1 2 3 7 7 7", "-1 -2 -3 7 7 7"))
    [structure], table = read_extxyz(path)
    assert structure.energy == -6.5
    assert structure.forces is not None
    assert structure.forces[0, 2] == 3.0
    np.testing.assert_array_equal(structure.stress, [[1, 6, 5], [6, 2, 4], [5, 4, 3]])
    assert table.energy.ignored == ("energy",)
    assert table.forces.ignored == ("forces",)
    assert table.stress.ignored == ("stress", "virial")


def test_keys_the_user_names(file):
    text = frame(f"{FORCES.format('f_dft')} e_dft=-1.5 energy=-2.5", "1 2 3", "-1 -2 -3")
    keys = LabelKeys(energy="e_dft", forces="f_dft")
    structures, table = read_extxyz(file(text, frame("note=unlabelled")), keys=keys)
    assert [structure.energy for structure in structures] == [-1.5, None]
    assert structures[1].forces is None
    assert (table.energy.n_structures, table.n_structures) == (1, 2)


def test_a_named_key_that_is_not_there_is_an_error_that_lists_the_keys(file):
    path = file(frame("dft_energy=-1.5 note=x"))
    message = "no structure has the energy key 'dft_enery'; its keys are dft_energy, note; did"
    with pytest.raises(ValueError, match=message):
        read_extxyz(path, keys=LabelKeys(energy="dft_enery"))


def test_a_file_without_usual_labels_lists_its_keys_and_the_way_out(file):
    path = file(frame(f"{FORCES.format('dft_f')} dft_e=-1.5", "1 2 3", "-1 -2 -3"))
    with pytest.raises(ValueError, match=r"its keys are dft_e, dft_f; name them .*energy_key"):
        read_extxyz(path)
    with pytest.raises(ValueError, match="the file has no keys besides positions and cell"):
        read_extxyz(file(frame("")))


@pytest.mark.parametrize(
    "stress",
    [
        'stress="1 6 5 6 2 4 5 4 3"',
        'stress="1 2 3 4 5 6"',
        'stress="1, 2, 3, 4, 5, 6"',
        'REF_stress="1 6 5 6 2 4 5 4 3"',
        'REF_stress="1 2 3 4 5 6"',
        'REF_stress="_JSON [[1, 6, 5], [6, 2, 4], [5, 4, 3]]"',
    ],
)
def test_stress_layouts(file, stress):
    [structure], _ = read_extxyz(file(frame(f"energy=0.0 {CELL} {stress}")))
    np.testing.assert_array_equal(structure.stress, [[1, 6, 5], [6, 2, 4], [5, 4, 3]])


@pytest.mark.parametrize("key", ["virial", "virials", "REF_virials", "w"])
def test_virial_is_minus_volume_times_stress(file, key):
    keys = LabelKeys(virial="w") if key == "w" else None
    comment = f'energy=0.0 {CELL} {key}="120 0 12 0 240 0 12 0 360"'
    [structure], table = read_extxyz(file(frame(comment)), keys=keys)
    assert structure.stress is not None
    np.testing.assert_allclose(structure.stress, [[-1, 0, -0.1], [0, -2, 0], [-0.1, 0, -3]])
    assert table.stress.key == key


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ('energy=0.0 stress="1 2 3 4 5 6"', "a stress needs three independent cell vectors"),
        ('energy=0.0 virial="1 0 0 0 1 0 0 0 1"', "'virial' needs three independent cell vectors"),
        ('energy=0.0 REF_stress="1 2 3 4"', r"must have shape \[3, 3\], \[9\] or \[6\], got \[4\]"),
        (
            f'energy=0.0 {CELL} REF_stress="1 0.2 0 0.1 1 0 0 0 1"',
            "the stress from 'REF_stress' is not symmetric",
        ),
        ("REF_energy=nan", "`energy` must be finite"),
        ("REF_energy=unknown", "'REF_energy' must hold one number, got 'unknown'"),
        ('REF_energy="1.0 2.0"', "'REF_energy' must hold one number"),
        (FORCES.replace("3", "2").replace("pos:R:2", "pos:R:3").format("forces"), "`forces` must"),
    ],
)
def test_bad_labels_name_file_and_frame(file, comment, message):
    good, bad = frame("energy=1.0 REF_energy=1.0"), frame(comment, "1 2 3", "1 2 3")
    with pytest.raises(ValueError, match=rf"set\.xyz, frame 1: .*{message}"):
        read_extxyz(file(good, bad))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3\nenergy=1.0\nO 0 0 0\nH 0 0 1\n", "the file ends 1 lines early"),
        ("two\nenergy=1.0\nO 0 0 0\nH 0 0 1\n", "expected the number of atoms, got 'two'"),
        ("1\nenergy=1.0\nO 0 0 0\nH 0 0 1\n", "expected the number of atoms, got 'H 0 0 1'"),
        ("1\nenergy=1.0\nO 0 0\n", ""),
        ("1\nenergy=1.0\nO 0 0 zero\n", "could not convert"),
        ("1\nenergy=1.0\nQq 0 0 0\n", "Qq"),
    ],
)
def test_broken_frames_are_numbered(file, text, message):
    number = 2 if "'H" in message else 1
    with pytest.raises(ValueError, match=rf"set\.xyz, frame {number}: .*{message}"):
        read_extxyz(file(frame("energy=1.0"), text))


@pytest.mark.parametrize(
    ("suffix", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)]
)
def test_compressed_file_is_read_like_the_plain_one(tmp_path, file, suffix, compress):
    path = file(*(frame(f"energy={i}.0") for i in range(3)), "\n")
    compressed = tmp_path / f"set.xyz.{suffix}"
    compressed.write_bytes(compress(path.read_bytes()))
    structures, table = read_extxyz(compressed)
    assert [structure.energy for structure in structures] == [0.0, 1.0, 2.0]
    assert [s.identifier for s in structures] == [f"set.xyz.{suffix}:{i}" for i in range(3)]
    assert table.path == compressed


@pytest.mark.parametrize(("suffix", "compress"), [("bz2", bz2.compress), ("xz", lzma.compress)])
def test_truncated_compressed_files(tmp_path, file, suffix, compress):
    content = compress(file(*(frame(f"energy={i}.0") for i in range(3))).read_bytes())
    path = tmp_path / f"cut.xyz.{suffix}"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"cut\.xyz\.{suffix}, frame \d: .*[Ee]nd"):
        read_extxyz(path)


def test_truncated_and_false_gzip_files(tmp_path):
    text = "".join(frame(f"energy={i}.0 salt={i * 7919 % 10007}") for i in range(2000))
    content = gzip.compress(text.encode())
    path = tmp_path / "cut.xyz.gz"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cut\.xyz\.gz, frame \d{3,4}: .*[Ee]nd"):
        read_extxyz(path)
    path.write_bytes(b"not compressed")
    with pytest.raises(ValueError, match=r"cut\.xyz\.gz, frame 0: Not a gzipped file"):
        read_extxyz(path)


def test_source_id_identifies(file):
    structures, _ = read_extxyz(file(frame("energy=1 source_id=mp-1:3"), frame("energy=2")))
    assert [structure.identifier for structure in structures] == ["mp-1:3", "set.xyz:1"]


def test_empty_and_missing_files(file, tmp_path):
    with pytest.raises(ValueError, match=r"set\.xyz: the file is empty"):
        read_extxyz(file(""))
    with pytest.raises(FileNotFoundError, match=r"no such file: .*absent\.xyz"):
        read_extxyz(tmp_path / "absent.xyz")


def test_what_ase_writes_comes_back(tmp_path, file):
    comment = f'{FORCES.format("forces")} energy=-5.25 {CELL} stress="1 6 5 6 2 4 5 4 3"'
    [first], _ = read_extxyz(file(frame(comment, "1 2 3", "-1 -2 -3")))
    write(tmp_path / "again.extxyz", to_atoms(first), format="extxyz")
    [second], _ = read_extxyz(tmp_path / "again.extxyz")
    assert second.energy == first.energy
    assert second.identifier == first.identifier
    for name in ("atomic_numbers", "positions", "cell", "pbc", "forces", "stress"):
        np.testing.assert_array_equal(getattr(second, name), getattr(first, name))
