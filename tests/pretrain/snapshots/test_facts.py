from dataclasses import replace
from typing import Any

import pytest
from gfm_models.heads import HeadConfig
from gfm_pretrain.snapshots.facts import check_descriptions, restore_remembered

HEAD = HeadConfig(level_of_theory="PBE", reference_energies={"H": -13.6}, scales={"H": 1.0})


class Counter:
    def __init__(self) -> None:
        self.n = 0

    def facts(self) -> Any:
        return self.n

    def restore(self, facts: Any) -> None:
        self.n = facts


def test_each_gets_its_own_back():
    a, b = Counter(), Counter()
    restore_remembered({"a": a, "b": b}, {"b": 5, "of an older version": 7})
    assert (a.n, b.n) == (0, 5)


def plain(config: HeadConfig) -> dict[str, Any]:
    return {"reference_energies": {"H": -13.6}, "scales": {"H": 1.0}, "width": config.width}


def test_what_is_only_said_of_a_head_may_change():
    check_descriptions({"a": plain(HEAD)}, {"a": replace(HEAD, description="better"), "new": HEAD})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"reference_energies": {"H": -13.7}}, r"head a \(reference_energies\); put back"),
        ({"scales": {"H": 1.1}, "width": 3}, r"head a \(scales\), a \(width\); put back"),
    ],
)
def test_what_weights_mean_may_not_change(changes, named):
    with pytest.raises(ValueError, match=named):
        check_descriptions({"a": plain(HEAD)}, {"a": replace(HEAD, **changes)})
