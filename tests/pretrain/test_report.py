from types import SimpleNamespace
from typing import Any, cast

import pytest
from gfm_pretrain.data.labels import FoundLabel, LabelTable
from gfm_pretrain.process import World
from gfm_pretrain.report import error_table, label_table, placement_table
from gfm_pretrain.setup import Setup


def test_errors_are_in_milli_units():
    errors = {
        "before": {"a": {"energy_mae_per_atom": 1.0, "forces_mae": 0.5, "forces_rmse": 0.75}},
        "after": {"a": {"energy_mae_per_atom": 0.0123, "forces_mae": 0.02}, "b": {}},
    }
    lines = error_table(errors).splitlines()
    assert lines[0].startswith("head")
    assert lines[2].split() == ["a", "before", "1000.0", "500.0", "750.0", "-"]
    assert lines[3].split() == ["a", "after", "12.3", "20.0", "-", "-"]
    assert len(lines) == 4


def test_without_errors_the_table_is_empty():
    assert len(error_table({"before": {}}).splitlines()) == 2


@pytest.fixture
def setup() -> Setup:
    def found(label: str, key: str | None, n: int, *ignored: str) -> FoundLabel:
        return FoundLabel(label=label, key=key, n_structures=n, ignored=ignored)

    table = LabelTable(
        path=cast(Any, None),
        n_structures=12,
        energy=found("energy", "REF_energy", 12, "energy"),
        forces=found("forces", "forces", 7),
        stress=found("stress", None, 0),
    )
    config = SimpleNamespace(level_of_theory="PBE", elements=("H", "O"), reference_origin="fit")
    summary = SimpleNamespace(config=config, tables={"train": table})
    return cast(Setup, SimpleNamespace(summaries={"water": summary}, owners={"water": (1, 2)}))


def test_labels_are_shown_with_their_keys_and_those_passed_over(setup):
    row = label_table(setup).splitlines()[2]
    assert " ".join(row.split()) == "water train 12 12 (REF_energy, not energy) 7 (forces) none"


def test_owners_are_shown(setup):
    world = cast(World, SimpleNamespace(size=4))
    row = placement_table(setup, world).splitlines()[2]
    assert row.split() == ["water", "PBE", "H", "O", "fit", "1,", "2", "of", "4"]
