from pathlib import Path

import h5py
import numpy as np
import pytest
from gfm_pretrain.data.sources.qm7x import SOURCE
from gfm_pretrain.data.sources.source import Record, Refused, resolve_options


def write_geometry(file: h5py.File, name: str, number: float) -> None:
    """A geometry as published; every label is derived from `number` in its own way."""
    geometry = file.create_group(name)
    geometry["atNUM"] = np.array([8, 1, 1])
    geometry["atXYZ"] = number + np.arange(9.0).reshape(3, 3)
    geometry["ePBE0+MBD"] = np.array([-2000.0 - number])
    geometry["ePBE0"] = np.array([-1000.0 - number])
    geometry["eMBD"] = np.array([-1.0])
    geometry["totFOR"] = np.full((3, 3), number)
    geometry["pbe0FOR"] = np.full((3, 3), -number)
    geometry["vdwFOR"] = np.full((3, 3), 77.0)


GEOMETRIES = (
    "1/Geom-m1-i1-c1-d1",
    "1/Geom-m1-i1-c1-opt",
    "1/Geom-m1-i1-c10-d3",
    "1/Geom-m1-i1-c10-opt",
    "2/Geom-m2-i1-c1-opt",
)
"""In the order of the file."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "1000.hdf5"
    with h5py.File(path, "w") as file:
        for number, name in enumerate(GEOMETRIES):
            write_geometry(file, name, 1.0 + number)
    return path


def read(path: Path, level: str = "PBE0+MBD") -> list[Record | Refused]:
    blocks = list(SOURCE.blocks(path, resolve_options(SOURCE, {"level": level})))
    return [found for block in blocks for found in block.read()]


def read_records(path: Path, level: str = "PBE0+MBD") -> dict[str, Record]:
    return {found.identifier: found for found in read(path, level) if isinstance(found, Record)}


def test_a_record_is_that_of_the_file(path: Path):
    assert [found.identifier for found in read(path)] == list(GEOMETRIES)
    record = read_records(path)["1/Geom-m1-i1-c1-opt"]
    assert (record.group, record.split) == ("1", None)
    assert record.atomic_numbers.tolist() == [8, 1, 1]
    assert record.positions.tolist() == (2.0 + np.arange(9.0).reshape(3, 3)).tolist()
    assert record.energy == -2002.0
    assert record.forces is not None
    assert record.forces.tolist() == np.full((3, 3), 2.0).tolist()
    assert not record.pbc.any()


def test_all_geometries_of_a_molecule_are_one_group(path: Path):
    assert [record.group for record in read_records(path).values()] == ["1", "1", "1", "1", "2"]


@pytest.mark.parametrize(
    ("level", "energy", "force"), [("PBE0+MBD", -2001.0, 1.0), ("PBE0", -1001.0, -1.0)]
)
def test_energy_and_forces_are_of_one_level(path: Path, level: str, energy: float, force: float):
    record = read_records(path, level)["1/Geom-m1-i1-c1-d1"]
    assert record.energy == energy
    assert record.forces is not None
    assert record.forces.tolist() == np.full((3, 3), force).tolist()


def test_a_missing_label_is_not_taken_from_the_other_level(path: Path):
    with h5py.File(path, "a") as file:
        del file["1/Geom-m1-i1-c1-d1/totFOR"]
        del file["1/Geom-m1-i1-c1-opt/ePBE0+MBD"]
    records = read_records(path)
    assert records["1/Geom-m1-i1-c1-d1"].energy == -2001.0
    assert records["1/Geom-m1-i1-c1-d1"].forces is None
    assert records["1/Geom-m1-i1-c1-opt"].energy is None
    assert records["1/Geom-m1-i1-c1-opt"].forces is not None
    assert read_records(path, "PBE0")["1/Geom-m1-i1-c1-opt"].energy == -1002.0


def test_an_energy_may_be_a_plain_scalar(path: Path):
    with h5py.File(path, "a") as file:
        del file["2/Geom-m2-i1-c1-opt/ePBE0+MBD"]
        file["2/Geom-m2-i1-c1-opt/ePBE0+MBD"] = -5.5
    assert read_records(path)["2/Geom-m2-i1-c1-opt"].energy == -5.5


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ePBE0+MBD": None, "totFOR": None}, "there is neither `ePBE0+MBD` nor `totFOR`"),
        ({"atXYZ": None}, "there is no dataset `atXYZ`"),
        ({"atNUM": None}, "there is no dataset `atNUM`"),
        ({"totFOR": np.zeros((2, 3))}, "`totFOR` must have shape [3, 3], got [2, 3]"),
        ({"ePBE0+MBD": np.zeros(2)}, "`ePBE0+MBD` must have shape [1], got [2]"),
    ],
)
def test_a_broken_geometry_is_refused_alone(
    path: Path, change: dict[str, np.ndarray | None], reason: str
):
    with h5py.File(path, "a") as file:
        for name, value in change.items():
            del file[f"2/Geom-m2-i1-c1-opt/{name}"]
            if value is not None:
                file[f"2/Geom-m2-i1-c1-opt/{name}"] = value
    assert list(read_records(path)) == list(GEOMETRIES[:4])
    refused = read(path)[4]
    assert refused == Refused(identifier="2/Geom-m2-i1-c1-opt", kind="unreadable", reason=reason)


@pytest.mark.parametrize("entry", ["Geom-m1-i1-c1-opt", "Geom-m1-i1-c1"])
def test_a_duplicate_is_left_out_with_its_displaced_structures_only(path: Path, entry: str):
    path.with_name("DupMols.dat").write_text(f"Geom-m9-i1-c1-opt\n{entry}\n")
    assert list(read_records(path)) == list(GEOMETRIES[2:])
    refused = [found for found in read(path) if isinstance(found, Refused)]
    assert [found.identifier for found in refused] == list(GEOMETRIES[:2])
    assert {found.kind for found in refused} == {"duplicate"}
    assert "DupMols.dat" in refused[0].reason


def test_a_listed_displaced_structure_is_left_out_alone(path: Path):
    path.with_name("DupMols.dat").write_text("Geom-m1-i1-c10-d3 Geom-m1-i1-c2-opt")
    assert list(read_records(path)) == [*GEOMETRIES[:2], *GEOMETRIES[3:]]


def test_a_list_of_duplicates_that_is_none_is_named(path: Path):
    path.with_name("DupMols.dat").write_text("<html> not found </html>")
    with pytest.raises(ValueError, match=r"DupMols\.dat: '<html>' is not the name of a geometry"):
        read(path)


def test_blocks_are_molecules_and_the_same_every_time(path: Path):
    options = resolve_options(SOURCE, {})
    first, second = (list(SOURCE.blocks(path, options)) for _ in range(2))
    assert [block.done for block in first] == [block.done for block in second] == [0.8, 1.0]
    assert [found.identifier for found in first[1].read()] == [GEOMETRIES[4]]
    assert [found.identifier for found in second[0].read()] == list(GEOMETRIES[:4])


def test_another_hdf5_file_is_named(tmp_path: Path):
    path = tmp_path / "ani1x-release.h5"
    with h5py.File(path, "w") as file:
        file["C1H4/atomic_numbers"] = np.array([6, 1, 1, 1, 1])
    with pytest.raises(ValueError, match=r"ani1x-release\.h5: .*no QM7-X file.*\['C1H4'\]"):
        read(path)


def test_truncated_and_packed_files_are_named(path: Path):
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"1000\.hdf5: .*damaged.*truncated"):
        read(path)
    path.write_bytes(b"\xfd7zXZ" + bytes(1000))
    with pytest.raises(ValueError, match=r"1000\.hdf5: no HDF5 file, still packed"):
        read(path)


@pytest.mark.parametrize("level", ["PBE0+MBD", "PBE0"])
def test_facts_follow_the_level(level: str):
    facts = SOURCE.facts(resolve_options(SOURCE, {"level": level}))
    assert facts.level_of_theory == level
    assert facts.licence == "CC-BY-4.0"
