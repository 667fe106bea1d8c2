"""Heads: reference energies, scales, and the elements they know."""

from typing import Any

import pytest
import torch
from gfm_models.heads import Head, HeadConfig, check_elements

N_FEATURES = 5


def config(**changes: Any) -> HeadConfig:
    fields = {
        "level_of_theory": "PBE",
        "reference_energies": {"O": -2041.3, "H": -13.6},
        "scales": {"H": 0.5, "O": 2.0},
    }
    return HeadConfig(**(fields | changes))


@pytest.fixture
def head() -> Head:
    torch.manual_seed(0)
    return Head(config(), n_features=N_FEATURES, dtype=torch.float32)


def test_no_features_give_exactly_the_reference_energies(head: Head) -> None:
    energies = head(torch.zeros(2, N_FEATURES), torch.tensor([1, 8]))
    assert energies.dtype == torch.float64
    assert energies.tolist() == [-13.6, -2041.3]


def test_the_learned_part_is_in_units_of_the_elements_scale(head: Head) -> None:
    features = torch.randn(1, N_FEATURES).expand(2, -1)
    reference = head.get_buffer("reference_energies")[[1, 8]]
    learned = head(features, torch.tensor([1, 8])) - reference
    assert learned[0].abs() > 1e-3
    torch.testing.assert_close(learned[1], 4 * learned[0], rtol=1e-5, atol=0)


def test_elements_are_sorted_by_atomic_number() -> None:
    assert config().elements == ("H", "O")


def test_unknown_elements_are_named_with_the_known_ones() -> None:
    check_elements(config(), [1, 8, 8], head="water")
    message = "head 'water' does not know Fe, U; it knows H, O"
    with pytest.raises(ValueError, match=message):
        check_elements(config(), [92, 1, 26], head="water")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scales": {"H": 1.0}}, r"must name the same elements, differ in \['O'\]"),
        (
            {"reference_energies": {"Xx": 0.0}, "scales": {"Xx": 1.0}},
            "'Xx' is no chemical symbol",
        ),
        ({"reference_energies": {"X": 0.0}, "scales": {"X": 1.0}}, "'X' is no chemical symbol"),
        ({"width": 0}, "width of a head must lie in 1 to 4096, got 0"),
        ({"width": 10**9}, "width of a head must lie in 1 to 4096"),
    ],
)
def test_impossible_heads_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**change)
