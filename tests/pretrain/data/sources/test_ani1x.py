from pathlib import Path

import h5py
import numpy as np
import pytest
from gfm_pretrain.data.sources.ani1x import SOURCE
from gfm_pretrain.data.sources.source import Record, Refused, resolve_options

EV = 27.211386
"""Of one Hartree."""
NAN = np.nan


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Four configurations of CH4 of which one has all levels, and one of water, which has dz."""
    path = tmp_path / "ani1x-release.h5"
    generator = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        methane = file.create_group("C1H4")
        methane["atomic_numbers"] = np.array([6, 1, 1, 1, 1], dtype=np.uint8)
        methane["coordinates"] = generator.normal(size=(4, 5, 3)).astype(np.float32)
        methane["wb97x_dz.energy"] = np.array([-40.5, -40.25, -40.125, -40.0])
        methane["wb97x_dz.forces"] = generator.normal(size=(4, 5, 3)).astype(np.float32)
        methane["wb97x_tz.energy"] = np.array([NAN, -41.0, NAN, -42.0])
        forces = np.full((4, 5, 3), NAN)
        forces[3] = 0.5
        methane["wb97x_tz.forces"] = forces
        methane["ccsd(t)_cbs.energy"] = np.array([NAN, NAN, NAN, -43.0])
        water = file.create_group("H2O1")
        water["atomic_numbers"] = np.array([8, 1, 1], dtype=np.uint8)
        water["coordinates"] = generator.normal(size=(1, 3, 3)).astype(np.float32)
        water["wb97x_dz.energy"] = np.array([-76.0])
        water["wb97x_dz.forces"] = generator.normal(size=(1, 3, 3)).astype(np.float32)
    return path


def read(path: Path, level: str) -> list[Record | Refused]:
    blocks = list(SOURCE.blocks(path, resolve_options(SOURCE, {"level": level})))
    return [found for block in blocks for found in block.read()]


def read_records(path: Path, level: str) -> list[Record]:
    found = read(path, level)
    records = [record for record in found if isinstance(record, Record)]
    assert len(records) == len(found)
    return records


def read_dataset(path: Path, name: str) -> np.ndarray:
    with h5py.File(path) as file:
        dataset = file[name]
        assert isinstance(dataset, h5py.Dataset)
        return dataset[...]


def energies(path: Path, level: str) -> dict[str, float | None]:
    return {record.identifier: record.energy for record in read_records(path, level)}


def test_a_record_is_in_electronvolts(path: Path):
    record = read_records(path, "dz")[1]
    positions = read_dataset(path, "C1H4/coordinates")[1]
    forces = read_dataset(path, "C1H4/wb97x_dz.forces")[1].astype(np.float64)
    assert (record.identifier, record.group, record.split) == ("C1H4/1", "C1H4", None)
    assert record.atomic_numbers.tolist() == [6, 1, 1, 1, 1]
    assert record.atomic_numbers.dtype == np.int64
    assert np.array_equal(record.positions, positions)
    assert record.energy == pytest.approx(-40.25 * EV, rel=1e-7)
    assert record.forces == pytest.approx(forces * EV, rel=1e-7)
    assert record.stress is None
    assert not record.pbc.any()
    assert not record.cell.any()


def test_each_level_has_its_own_configurations_and_labels(path: Path):
    assert energies(path, "dz") == pytest.approx(
        {
            "C1H4/0": -40.5 * EV,
            "C1H4/1": -40.25 * EV,
            "C1H4/2": -40.125 * EV,
            "C1H4/3": -40.0 * EV,
            "H2O1/0": -76.0 * EV,
        }
    )
    assert energies(path, "tz") == pytest.approx({"C1H4/1": -41.0 * EV, "C1H4/3": -42.0 * EV})
    assert energies(path, "ccx") == pytest.approx({"C1H4/3": -43.0 * EV})


def test_forces_are_absent_where_they_were_not_computed(path: Path):
    without, with_forces = read_records(path, "tz")
    assert without.forces is None
    assert with_forces.forces == pytest.approx(np.full((5, 3), 0.5 * EV), rel=1e-7)
    [coupled_cluster] = read_records(path, "ccx")
    assert coupled_cluster.forces is None


def test_forces_of_only_some_atoms_are_refused(path: Path):
    forces = read_dataset(path, "C1H4/wb97x_dz.forces")
    forces[2, 4] = NAN
    with h5py.File(path, "a") as file:
        del file["C1H4/wb97x_dz.forces"]
        file["C1H4/wb97x_dz.forces"] = forces
    [refused] = [found for found in read(path, "dz") if isinstance(found, Refused)]
    assert (refused.identifier, refused.kind) == ("C1H4/2", "unreadable")
    assert refused.reason == "3 of 15 components of the forces are NaN"
    assert len(read(path, "dz")) == 5


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("coordinates", np.zeros((3, 5, 3)), r"`coordinates` must have shape [4, 5, 3]"),
        ("wb97x_dz.forces", np.zeros((4, 4, 3)), r"`wb97x_dz.forces` must have shape [4, 5, 3]"),
        ("atomic_numbers", np.ones((1, 5)), r"`atomic_numbers` must have shape [5], got [1, 5]"),
        ("coordinates", None, r"there is no dataset `coordinates`"),
    ],
)
def test_datasets_that_do_not_belong_together_are_refused(
    path: Path, name: str, value: np.ndarray | None, reason: str
):
    with h5py.File(path, "a") as file:
        del file[f"C1H4/{name}"]
        if value is not None:
            file[f"C1H4/{name}"] = value
    found = read(path, "dz")
    refused = [item for item in found if isinstance(item, Refused)]
    assert [item.identifier for item in refused] == [f"C1H4/{row}" for row in range(4)]
    assert all(item.kind == "unreadable" and reason in item.reason for item in refused)
    assert [item.identifier for item in found if isinstance(item, Record)] == ["H2O1/0"]


def test_a_long_formula_is_read_in_runs_that_stay_in_order(tmp_path: Path):
    path = tmp_path / "long.h5"
    with h5py.File(path, "w") as file:
        for formula, n_rows in (("H1", 2300), ("O1", 5)):
            file[f"{formula}/atomic_numbers"] = np.array([1])
            file[f"{formula}/coordinates"] = np.arange(3.0 * n_rows).reshape(n_rows, 1, 3)
            file[f"{formula}/wb97x_dz.energy"] = np.arange(n_rows, dtype=float)
            file[f"{formula}/wb97x_dz.forces"] = np.zeros((n_rows, 1, 3))
    blocks = list(SOURCE.blocks(path, resolve_options(SOURCE, {})))
    assert [block.done for block in blocks] == [1000 / 2305, 2000 / 2305, 2300 / 2305, 1.0]
    third, last = [*blocks[2].read()], [*blocks[3].read()]
    assert [len(third), len(last)] == [300, 5]
    first = third[0]
    assert isinstance(first, Record)
    assert first.identifier == "H1/2000"
    assert first.energy == pytest.approx(2000 * EV, rel=1e-7)
    assert first.positions.tolist() == [[6000.0, 6001.0, 6002.0]]


def test_blocks_are_the_same_every_time_and_can_be_read_in_any_order(path: Path):
    first, second = (list(SOURCE.blocks(path, resolve_options(SOURCE, {}))) for _ in range(2))
    assert [block.done for block in first] == [block.done for block in second] == [0.8, 1.0]
    backwards = [[found.identifier for found in block.read()] for block in reversed(second)]
    assert backwards == [["H2O1/0"], ["C1H4/0", "C1H4/1", "C1H4/2", "C1H4/3"]]
    again = [[found.identifier for found in block.read()] for block in reversed(first)]
    assert again == backwards


def test_a_level_that_the_file_lacks_is_named_with_those_it_has(path: Path):
    with h5py.File(path, "a") as file:
        del file["C1H4/wb97x_tz.energy"]
    with pytest.raises(
        ValueError, match=r"release\.h5: no group has .*`wb97x_tz\.energy`.*one of: dz, ccx$"
    ):
        read(path, "tz")


def test_another_hdf5_file_is_named(tmp_path: Path):
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["1/Geom-m1-i1-c1-opt/atNUM"] = np.array([6])
    with pytest.raises(ValueError, match=r"other\.h5: .*this is no ANI-1x file"):
        read(path, "dz")


@pytest.mark.parametrize("level", ["dz", "tz", "ccx"])
def test_a_truncated_file_is_named(path: Path, level: str):
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"ani1x-release\.h5: .*damaged.*truncated"):
        read(path, level)


@pytest.mark.parametrize(
    ("level", "theory"),
    [("dz", "wB97X/6-31G(d)"), ("tz", "wB97X/def2-TZVPP"), ("ccx", "CCSD(T)*/CBS")],
)
def test_facts_follow_the_level(level: str, theory: str):
    facts = SOURCE.facts(resolve_options(SOURCE, {"level": level}))
    assert facts.level_of_theory == theory
    assert theory in facts.description
    assert facts.licence == "CC0-1.0"
