import bz2
import json
from pathlib import Path

import numpy as np
import pytest
from ase import units
from gfm_pretrain.data.sources.alexandria import SOURCE
from gfm_pretrain.data.sources.source import Record, Refused, resolve_options

DEFAULTS = resolve_options(SOURCE, {})
FORCES = [[0.25, 0.0, -0.5], [-0.25, 0.0, 0.5]]
STRESS = [[20.0, 1.0, 0.0], [1.0, -5.0, 0.0], [0.0, 0.0, 0.0]]


def structure(*, element: str = "Mg", **properties: list) -> dict:
    """Two atoms with the keys of `Structure.as_dict`; properties by name, a value for each site."""
    sites = [
        {
            "species": [{"element": symbol, "occu": 1}],
            "abc": [place / 2, 0.0, 0.0],
            "xyz": [2.0 * place, 0.0, 0.0],
            "label": symbol,
            "properties": {name: values[place] for name, values in properties.items()},
        }
        for place, symbol in enumerate((element, "O"))
    ]
    lattice = {"matrix": [[4.0, 0, 0], [0, 5.0, 0], [0, 0, 20.0]], "pbc": [True, True, False]}
    return {"@class": "Structure", "charge": 0.0, "lattice": lattice, "sites": sites}


def step(**fields: object) -> dict:
    """A step of a relaxation path."""
    labels = {"energy": -11.5, "forces": FORCES, "stress": STRESS}
    return {"structure": structure(charge=[0.1, -0.1]), **labels, **fields}


def entry(**data: object) -> dict:
    """A `ComputedStructureEntry` whose energies are all different; data of None are left out."""
    published = {
        "mat_id": "agm002",
        "prototype_id": 99,
        "formula": "MgO",
        "e_form": -2.75,
        "e_above_hull": 0.0,
        "energy_total": -11.75,
        "energy_corrected": -12.5,
        "stress": STRESS,
        **data,
    }
    return {
        "@module": "pymatgen.entries.computed_entries",
        "@class": "ComputedStructureEntry",
        "energy": -12.25,
        "correction": -0.5,
        "composition": {"Mg": 1.0, "O": 1.0},
        "entry_id": "entry-7",
        "parameters": {},
        "data": {name: value for name, value in published.items() if value is not None},
        "structure": structure(forces=FORCES, magmom=[0.0, None], charge=[0.1, -0.1]),
    }


@pytest.fixture
def file(tmp_path):
    def write(value: object) -> Path:
        path = tmp_path / "alexandria_000.json.bz2"
        path.write_bytes(bz2.compress(json.dumps(value).encode()))
        return path

    return write


def read(path: Path) -> list[Record | Refused]:
    """All records of a file."""
    return [record for block in SOURCE.blocks(path, DEFAULTS) for record in block.read()]


def read_one(path: Path) -> Record:
    """The only record of a file."""
    [record] = read(path)
    assert isinstance(record, Record)
    return record


def refusal(path: Path) -> Refused:
    """The only record of a file, which is refused."""
    [record] = read(path)
    assert isinstance(record, Refused)
    assert record.kind == "unreadable"
    return record


@pytest.mark.parametrize(
    ("value", "identifier", "group", "energy"),
    [
        ({"agm001": [{"steps": [step()]}]}, "agm001/0/0", "agm001", -11.5),
        ({"agm001": {"steps": [step()]}}, "agm001/0/0", "agm001", -11.5),
        ({"entries": [entry()]}, "agm002", "agm002", -11.75),
    ],
)
def test_both_layouts_give_structure_and_labels(file, value, identifier, group, energy):
    record = read_one(file(value))
    assert (record.identifier, record.group, record.split) == (identifier, group, None)
    assert record.energy == energy
    np.testing.assert_array_equal(record.atomic_numbers, [12, 8])
    np.testing.assert_array_equal(record.positions, [[0, 0, 0], [2, 0, 0]])
    np.testing.assert_array_equal(record.cell, np.diag([4, 5, 20]))
    np.testing.assert_array_equal(record.forces, FORCES)
    expected = [[-2.0, -0.1, 0], [-0.1, 0.5, 0], [0, 0, 0]]
    assert record.stress is not None
    np.testing.assert_allclose(record.stress, np.array(expected) * units.GPa, rtol=1e-14)
    assert record.pbc.tolist() == [True, True, True]  # as calculated, whatever the file says


def test_paths_are_identified_by_calculation_and_step_and_grouped_by_material(file):
    paths = {
        "agm001": [{"steps": [step(energy=-1.0), step(energy=-2.0)]}, {"steps": [step(energy=-3)]}],
        "agm000": [{"steps": [step(energy=number) for number in range(12)]}],
    }
    records = [record for record in read(file(paths)) if isinstance(record, Record)]
    first = [(record.identifier, record.group, record.energy) for record in records[:3]]
    assert first == [
        ("agm001/0/0", "agm001", -1.0),
        ("agm001/0/1", "agm001", -2.0),
        ("agm001/1/0", "agm001", -3.0),
    ]
    assert [record.identifier for record in records[3:]] == [f"agm000/0/{n}" for n in range(12)]
    assert [record.energy for record in records[3:]] == list(range(12))


def test_a_block_is_one_material_or_ten_entries(file):
    paths = {f"agm{n}": [{"steps": [step()] * n}] for n in (1, 2, 3)}
    blocks = list(SOURCE.blocks(file(paths), DEFAULTS))
    assert [len(list(block.read())) for block in blocks] == [1, 2, 3]
    assert [len(list(block.read())) for block in blocks] == [1, 2, 3]
    assert blocks[-1].done == 1.0
    blocks = list(SOURCE.blocks(file({"entries": [entry()] * 23}), DEFAULTS))
    assert [len(list(block.read())) for block in blocks] == [10, 10, 3]
    assert blocks[-1].done == 1.0


def test_an_entry_without_total_energy_is_refused_whatever_other_energies_it_has(file):
    refused = refusal(file({"entries": [entry(energy_total=None)]}))
    assert refused.identifier == "agm002"
    assert "no `data.energy_total`" in refused.reason
    without_data = entry()
    del without_data["data"]
    refused = refusal(file({"entries": [without_data]}))
    assert (refused.identifier, refused.reason) == ("entry-7", "the entry has no `data`")


def test_an_entry_is_identified_by_material_else_entry_else_place(file):
    unnamed = entry(mat_id=None)
    del unnamed["entry_id"]
    records = read(file({"entries": [entry(), entry(mat_id=None), unnamed]}))
    assert [record.identifier for record in records] == ["agm002", "entry-7", "entries/2"]


def test_labels_that_are_absent_stay_absent(file):
    bare = entry(stress=None)
    bare["data"]["energy_total"] = None
    bare["structure"] = structure(forces=[None, None], magmom=[None, None])
    record = read_one(file({"entries": [bare]}))
    assert (record.energy, record.forces, record.stress) == (None, None, None)
    record = read_one(file({"agm001": [{"steps": [{"structure": structure()}]}]}))
    assert (record.energy, record.forces, record.stress) == (None, None, None)


def test_forces_on_some_sites_only_are_refused(file):
    partly = entry()
    partly["structure"] = structure(forces=[FORCES[0], None])
    refused = refusal(file({"entries": [partly]}))
    assert refused.reason == "1 of 2 sites have no property 'forces'"


def test_broken_steps_and_calculations_are_refused_and_the_others_are_kept(file):
    good = [{"steps": [step()]}]
    disordered = structure()
    disordered["sites"][1]["species"] = [{"element": "O", "occu": 0.5}]
    steps = [
        step(),
        step(forces=[[0, 0, 0], [1, 2]]),
        step(structure=disordered),
        step(structure=structure(element="Zz")),
        step(stress=[1, 2, 3, 4, 5, 6]),
        None,
    ]
    paths = {
        "good": good,
        "a": [{"steps": steps}, {"steps": None}, 5, *good],
        "b": "text",
        "c": {"0": good[0]},
    }
    records = read(file(paths))
    kept = [record.identifier for record in records if isinstance(record, Record)]
    reasons = {
        record.identifier: record.reason for record in records if isinstance(record, Refused)
    }
    assert kept == ["good/0/0", "a/0/0", "a/3/0"]
    assert list(reasons) == [
        *("a/0/1", "a/0/2", "a/0/3", "a/0/4", "a/0/5", "a/1", "a/2", "b/0", "c/0")
    ]
    assert "`forces` must be numbers in shape [2, 3]" in reasons["a/0/1"]
    assert "fully occupied, got 0.5 of O" in reasons["a/0/2"]
    assert "'Zz' is no chemical element" in reasons["a/0/3"]
    assert "`stress` must have shape [3, 3], got [6]" in reasons["a/0/4"]
    assert "got NoneType" in reasons["a/0/5"]
    assert "`steps` must be a list, got NoneType" in reasons["a/1"]
    assert "got int" in reasons["a/2"]
    assert "got str" in reasons["b/0"]
    assert reasons["c/0"] == "the calculation has no `steps`"


def test_a_broken_entry_is_refused_and_the_others_are_kept(file):
    records = read(file({"entries": [entry(), 5, {"data": {"mat_id": "agm9"}}, {"data": []}]}))
    assert isinstance(records[0], Record)
    found = [(r.identifier, r.reason) for r in records[1:] if isinstance(r, Refused)]
    assert found == [
        ("entries/1", "the entry must be an object with `structure`, got int"),
        ("agm9", "the entry has no `structure`"),
        ("entries/3", "the entry has no `structure`"),
    ]


@pytest.mark.parametrize("functional", ["PBE(+U)", "PBEsol", "SCAN"])
def test_the_level_of_theory_follows_the_option(functional):
    choice = functional.removesuffix("(+U)")
    facts = SOURCE.facts(resolve_options(SOURCE, {"functional": choice}))
    assert facts.level_of_theory == f"{functional}/VASP (Alexandria)"


def test_pbe_is_the_default_and_another_functional_is_refused():
    assert DEFAULTS == {"functional": "PBE"}
    with pytest.raises(ValueError, match="must be one of PBE, PBEsol, SCAN, got 'LDA'"):
        resolve_options(SOURCE, {"functional": "LDA"})


@pytest.mark.parametrize("value", [{"entries": [entry()] * 3}, {"a": [{"steps": [step()]}]}])
def test_a_truncated_file_is_named_in_one_line(file, value):
    path = file(value)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"alexandria_000\.json\.bz2 is damaged") as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        {"mp-1": {"mp-1-0-0": {"structure": structure(), "force": FORCES}}},
        {"entries": {"0": entry()}},
        {"entries": [{"energy": -1.0, "composition": {"H": 1}}]},
        {"results": [entry()]},
    ],
)
def test_a_file_of_another_layout_is_no_alexandria(file, value):
    with pytest.raises(ValueError, match=r"000\.json\.bz2 is not of Alexandria: it must map ids"):
        read(file(value))


def test_a_list_and_an_empty_file_are_no_alexandria(file):
    with pytest.raises(ValueError, match=r"bz2 must hold a JSON object, found array"):
        read(file([entry()]))
    with pytest.raises(ValueError, match=r"bz2 is JSON, but nothing is where its records are"):
        read(file({"entries": []}))
