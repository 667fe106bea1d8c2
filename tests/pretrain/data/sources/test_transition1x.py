from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from gfm_pretrain.data.sources.source import Record, Refused, resolve_options
from gfm_pretrain.data.sources.transition1x import SOURCE

STATES = ("reactant", "transition_state", "product")
ENERGY, FORCES = "wB97x_6-31G(d).energy", "wB97x_6-31G(d).forces"


def write_configurations(group: h5py.Group, energies: list[float]) -> None:
    n_rows = len(energies)
    group["atomic_numbers"] = np.array([6, 8])
    group["positions"] = np.arange(6.0 * n_rows).reshape(n_rows, 2, 3)
    group[ENERGY] = np.array(energies)
    group[FORCES] = np.array(energies)[:, None, None] * np.ones((2, 3))


def write_reaction(file: h5py.File, name: str, energy: float) -> None:
    """A path of three configurations and three states, each with an energy of its own."""
    reaction = file.create_group(f"data/{name}")
    write_configurations(reaction, [energy, energy + 1, energy + 2])
    for number, state in enumerate(STATES):
        write_configurations(reaction.create_group(state), [energy + 10 + number])


REACTIONS = ("CO/rxn0001", "CO/rxn0002", "CO/rxn0003", "C2O/rxn0001")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Reactions in `data` alone."""
    path = tmp_path / "Transition1x.h5"
    with h5py.File(path, "w") as file:
        for number, name in enumerate(REACTIONS):
            write_reaction(file, name, -1000.0 * (number + 1))
    return path


def link(path: Path, place: str, name: str, *, hard: bool = False) -> None:
    with h5py.File(path, "a") as file:
        target = f"/data/{name}"
        file[f"{place}/{name}"] = file[target] if hard else h5py.SoftLink(target)


def read(path: Path) -> list[Record | Refused]:
    blocks = list(SOURCE.blocks(path, resolve_options(SOURCE, {})))
    return [found for block in blocks for found in block.read()]


def read_records(path: Path) -> dict[str, Record]:
    return {found.identifier: found for found in read(path) if isinstance(found, Record)}


def splits(path: Path) -> dict[str, set[str | None]]:
    found: dict[str, set[str | None]] = {}
    for record in read_records(path).values():
        found.setdefault(record.group, set()).add(record.split)
    return found


def test_a_reaction_is_its_path_and_its_states(path: Path):
    records = read_records(path)
    names = [name for name in records if name.startswith("CO/rxn0001/")]
    assert [name.removeprefix("CO/rxn0001/") for name in names] == ["0", "1", "2", *STATES]
    assert [records[name].energy for name in names] == [-1000, -999, -998, -990, -989, -988]
    record = records["CO/rxn0001/2"]
    assert (record.group, record.split) == ("CO/rxn0001", None)
    assert record.atomic_numbers.tolist() == [6, 8]
    assert record.positions.tolist() == [[12.0, 13.0, 14.0], [15.0, 16.0, 17.0]]
    assert record.forces is not None
    assert record.forces.tolist() == np.full((2, 3), -998.0).tolist()
    assert not record.pbc.any()
    assert records["CO/rxn0001/product"].group == "CO/rxn0001"


def test_linked_reactions_are_read_once_in_their_published_split(path: Path):
    link(path, "train", REACTIONS[0])
    link(path, "val", REACTIONS[1], hard=True)
    link(path, "test", REACTIONS[3])
    link(path, "train", REACTIONS[2])
    counts = Counter(found.identifier for found in read(path))
    assert set(counts.values()) == {1}
    assert len(counts) == 4 * 6
    assert splits(path) == {
        REACTIONS[0]: {"train"},
        REACTIONS[1]: {"valid"},
        REACTIONS[2]: {"train"},
        REACTIONS[3]: {"test"},
    }
    assert read_records(path)["CO/rxn0002/transition_state"].energy == -1989.0


def test_a_split_may_link_whole_formulas(path: Path):
    with h5py.File(path, "a") as file:
        file["train/CO"] = h5py.SoftLink("/data/CO")
        file["test/C2O"] = file["data/C2O"]
    expected: dict[str, set[str]] = {name: {"train"} for name in REACTIONS[:3]}
    assert splits(path) == expected | {REACTIONS[3]: {"test"}}
    assert len(read(path)) == 4 * 6


def test_a_reaction_that_no_split_has_is_read_without_one(path: Path):
    link(path, "test", REACTIONS[0])
    assert splits(path) == {
        REACTIONS[0]: {"test"},
        REACTIONS[1]: {None},
        REACTIONS[2]: {None},
        REACTIONS[3]: {None},
    }
    assert len(read(path)) == 4 * 6


def test_a_link_that_leads_nowhere_is_named_with_the_file(path: Path):
    link(path, "train", "CO/rxn0099")
    with pytest.raises(ValueError, match=r"Transition1x\.h5: .*/train/CO/rxn0099: .*not found"):
        read(path)


def test_a_dataset_in_place_of_a_reaction_is_refused(path: Path):
    with h5py.File(path, "a") as file:
        file["val/CO/rxn0099"] = np.zeros(3)
    [refused] = [found for found in read(path) if isinstance(found, Refused)]
    assert (refused.identifier, refused.kind) == ("CO/rxn0099", "unreadable")
    assert refused.reason == "`val/CO/rxn0099` is not a group"
    assert len(read_records(path)) == 4 * 6
    with h5py.File(path, "a") as file:
        file["val/H2"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"Transition1x\.h5: `val/H2` must be a group"):
        read(path)


@pytest.mark.parametrize(
    ("name", "value", "refused", "reason"),
    [
        (FORCES, np.zeros((3, 1, 3)), ["0", "1", "2"], "must have shape [3, 2, 3], got [3, 1, 3]"),
        (ENERGY, np.zeros(2), ["0", "1"], "`positions` must have shape [2, 2, 3], got [3, 2, 3]"),
        (ENERGY, None, ["0"], "must have shape [1, 2, 3]"),
        (f"product/{ENERGY}", np.zeros(2), ["product"], "must have shape [1], got [2]"),
        ("reactant/atomic_numbers", None, ["reactant"], "there is no dataset `atomic_numbers`"),
        ("reactant", np.zeros(1), ["reactant"], "this is not a group"),
    ],
)
def test_datasets_that_do_not_belong_together_are_refused(
    path: Path, name: str, value: np.ndarray | None, refused: list[str], reason: str
):
    with h5py.File(path, "a") as file:
        del file[f"data/CO/rxn0001/{name}"]
        if value is not None:
            file[f"data/CO/rxn0001/{name}"] = value
    found = [item for item in read(path) if isinstance(item, Refused)]
    assert [item.identifier for item in found] == [f"CO/rxn0001/{row}" for row in refused]
    assert all(item.kind == "unreadable" and reason in item.reason for item in found)
    assert sum(name.startswith("CO/rxn0002/") for name in read_records(path)) == 6


def test_a_reaction_without_states_is_its_path(path: Path):
    with h5py.File(path, "a") as file:
        for state in STATES:
            del file[f"data/CO/rxn0001/{state}"]
    names = [name for name in read_records(path) if name.startswith("CO/rxn0001/")]
    assert names == ["CO/rxn0001/0", "CO/rxn0001/1", "CO/rxn0001/2"]


def test_blocks_are_reactions_and_the_same_every_time(path: Path):
    link(path, "test", REACTIONS[2])
    options = resolve_options(SOURCE, {})
    first, second = (list(SOURCE.blocks(path, options)) for _ in range(2))
    assert [block.done for block in first] == [block.done for block in second]
    assert [block.done for block in first] == [0.25, 0.5, 0.75, 1.0]
    order = [{found.identifier.rpartition("/")[0] for found in b.read()} for b in second]
    assert order == [{"CO/rxn0003"}, {"C2O/rxn0001"}, {"CO/rxn0001"}, {"CO/rxn0002"}]
    assert next(iter(first[3].read())).identifier == "CO/rxn0002/0"


def test_another_hdf5_file_is_named(tmp_path: Path):
    path = tmp_path / "1000.hdf5"
    with h5py.File(path, "w") as file:
        file["1/Geom-m1-i1-c1-opt/atNUM"] = np.array([6])
    with pytest.raises(ValueError, match=r"1000\.hdf5: .*no Transition1x file.*\['1'\]"):
        read(path)


def test_a_truncated_file_is_named(path: Path):
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"Transition1x\.h5: .*damaged.*truncated"):
        read(path)


def test_facts_name_the_level():
    facts = SOURCE.facts(resolve_options(SOURCE, {}))
    assert facts.level_of_theory == "wB97X/6-31G(d)"
    assert "doi:10.1038/s41597-022-01870-w" in facts.citation
