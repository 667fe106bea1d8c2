from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from audit_cases import crystal, make_structure, pair
from gfm_pretrain.data.audit.checks import (
    KINDS,
    Finding,
    Policy,
    check,
    finiteness,
    measure,
)
from gfm_pretrain.data.sources.source import Record
from gfm_pretrain.data.structure import LabelledStructure


def found(structure: LabelledStructure, budget: int = 1000) -> dict[str, str]:
    """Reasons by kind."""
    findings = check(structure, measure(structure), budget=budget)
    assert {finding.identifier for finding in findings} <= {structure.identifier}
    return {finding.kind: finding.reason for finding in findings}


def opposed(force: float) -> np.ndarray:
    """Forces (eV/Å) of two atoms that sum to zero."""
    return np.array([[0, 0, force], [0, 0, -force]], dtype=np.float64)


def stressed(stress: float) -> LabelledStructure:
    """A crystal with one component of stress in eV/Å^3."""
    return crystal(stress=np.diag([0.0, 0, stress]))


def test_nothing_is_found_in_a_sound_structure():
    assert found(pair()) == {}
    assert found(stressed(0.01)) == {}


@pytest.mark.parametrize(
    ("kind", "has_it", "just_inside", "reason"),
    [
        ("close", pair(0.499), pair(0.501), "two atoms are 0.499 Å apart"),
        (
            "absurd",
            pair(forces=opposed(-501)),
            pair(forces=opposed(499)),
            "a force of 501 eV/Å",
        ),
        ("absurd", stressed(-10.1), stressed(9.9), "a stress of 10.1 eV/Å^3"),
        ("absurd", pair(energy=-83.7), pair(energy=83.5), "an energy of -83.7 eV; all elec"),
        ("absurd", crystal(0.99), crystal(1.01), "a volume of 0.97 Å^3 per atom"),
        (
            "net_force",
            pair(forces=np.array([[0.03, 0, 0], [0.012, 0, 0]])),
            pair(forces=np.array([[0.03, 0, 0], [0.009, 0, 0]])),
            "a mean force of 0.021 eV/Å per atom",
        ),
        (
            "remote",
            make_structure([[0, -257, 0]]),
            make_structure([[0, -255, 0]]),
            "a coordinate of 257 Å; move it to the origin",
        ),
    ],
)
def test_each_kind(kind, has_it, just_inside, reason):
    assert found(has_it)[kind].startswith(reason)
    assert kind not in found(just_inside)


def test_a_structure_over_the_budget_says_which_and_what_to_do():
    structure = crystal(2.5)
    n_edges = measure(structure).n_edges[-1]
    assert found(structure, budget=n_edges) == {}
    reason = found(structure, budget=n_edges - 1)["over_budget"]
    assert reason == (
        f"structure set.xyz:1 has {n_edges} edges inside 6 Å, more than the budget of "
        f"{n_edges - 1}: raise --budget, or leave it out with --refuse over_budget"
    )


@pytest.mark.parametrize(("number", "energy"), [(1, -13.6), (92, -763_000), (118, -1_490_000)])
def test_total_energies_with_all_electrons_are_not_absurd(number, energy):
    numbers = np.array([number])
    assert found(make_structure([[0, 0, 0]], atomic_numbers=numbers, energy=energy)) == {}


def test_energies_of_water_in_kcal_per_mol_are_absurd():
    water = {"atomic_numbers": np.array([8, 1, 1]), "energy": -47_900.0}
    assert "absurd" in found(make_structure([[0, 0, 0], [0, 0, 1], [0, 1, 0]], **water))


def test_several_things_can_be_wrong():
    structure = make_structure([[0, 0, 0], [0, 0, 300], [0, 0, 300.4]])
    assert list(found(structure, budget=1)) == ["over_budget", "close", "remote"]


def record(**fields: Any) -> Record:
    """Two atoms with an energy and forces."""
    return Record(
        **{
            "identifier": "set.xyz:1",
            "group": "a",
            "atomic_numbers": np.array([1, 1]),
            "positions": np.array([[0, 0, 0], [0, 0, 0.75]]),
            "energy": -1.0,
            "forces": np.zeros((2, 3)),
            **fields,
        }
    )


@pytest.mark.parametrize(
    ("name", "value", "n_bad"),
    [
        ("positions", np.array([[0, 0, np.nan], [0, np.inf, 1]]), 2),
        ("cell", np.full((3, 3), np.nan), 9),
        ("energy", np.inf, 1),
        ("forces", np.array([[0, 0, 1], [0, 0, np.nan]]), 1),
        ("stress", np.diag([0, -np.inf, 0]), 1),
    ],
)
def test_what_is_not_finite_is_found_before_a_structure_is_made(name, value, n_bad):
    finding = finiteness(record(**{name: value}))
    reason = f"`{name}` must be finite, got {n_bad} values that are not"
    assert finding == Finding("nonfinite", "set.xyz:1", reason)


def test_a_record_needs_an_energy_or_forces():
    assert finiteness(record()) is None
    assert finiteness(record(energy=None)) is None
    assert finiteness(record(forces=None)) is None
    finding = finiteness(record(energy=None, forces=None, stress=np.eye(3)))
    assert finding is not None
    assert finding.kind == "unlabelled"


def test_the_default_policy():
    policy = Policy.of()
    by_action = {
        action: {kind for kind in KINDS if policy.action(kind) == action}
        for action in ("keep", "stop", "refuse")
    }
    assert by_action["keep"] == {"net_force", "energy_outlier", "remote"}
    assert by_action["stop"] == {"over_budget"}
    assert len(by_action["refuse"]) == len(KINDS) - 4


def test_the_user_may_decide_otherwise():
    policy = Policy.of(refuse=("over_budget", "remote", "close"), keep=("duplicate",))
    assert [policy.action(kind) for kind in ("over_budget", "remote", "close")] == ["refuse"] * 3
    assert policy.action("duplicate") == "keep"
    assert policy.action("net_force") == "keep"


@pytest.mark.parametrize("which", ["refuse", "keep"])
def test_an_unknown_kind_is_an_error_that_lists_the_valid_ones(which):
    with pytest.raises(ValueError, match="no finding of kind 'nearby'; the kinds are invalid, unr"):
        Policy.of(**{which: ("nearby",)})
    with pytest.raises(ValueError, match="no finding of kind 'odd'"):
        Policy.of().action("odd")


def test_a_kind_cannot_be_refused_and_kept():
    with pytest.raises(ValueError, match="'close' cannot be both refused and kept; choose one"):
        Policy.of(refuse=("close",), keep=("close",))


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("invalid", "it cannot be stored"),
        ("unreadable", "there is nothing to keep"),
        ("nonfinite", "makes every weight"),
        ("unlabelled", "nothing to learn"),
        ("unseen_element", "no reference energy"),
        ("over_budget", "raise --budget instead"),
    ],
)
def test_some_kinds_are_never_kept(kind, why):
    with pytest.raises(ValueError, match=f"'{kind}' cannot be kept: .*{why}"):
        Policy.of(keep=(kind,))


def test_findings_lead_back_to_the_record():
    close = replace(pair(0.3), identifier="mp-1-0-2")
    [finding] = check(close, measure(close), budget=10)
    assert finding == Finding("close", "mp-1-0-2", "two atoms are 0.300 Å apart")
