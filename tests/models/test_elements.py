"""The vectors of elements before training: a sample from the periodic table."""

import numpy as np
import pytest
import torch
from ase.data import atomic_numbers as number_of
from gfm_models.layers.elements import covariance, element_vectors, place


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("H", (1, 1, 0)),
        ("He", (1, 18, 0)),
        ("Li", (2, 1, 0)),
        ("B", (2, 13, 0)),
        ("Cl", (3, 17, 0)),
        ("Sc", (4, 3, 0)),
        ("Zn", (4, 12, 0)),
        ("Ga", (4, 13, 0)),
        ("Ba", (6, 2, 0)),
        ("La", (6, 3, 1)),
        ("Yb", (6, 3, 14)),
        ("Lu", (6, 3, 0)),
        ("Hg", (6, 12, 0)),
        ("Og", (7, 18, 0)),
    ],
)
def test_places_in_the_periodic_table(symbol: str, expected: tuple[int, int, int]) -> None:
    assert place(number_of[symbol]) == expected


def test_no_two_elements_share_a_place() -> None:
    assert len({place(z) for z in range(1, 119)}) == 118


def test_likeness_follows_groups_and_periods() -> None:
    alike = covariance()

    def between(one: str, other: str) -> float:
        return alike[number_of[one], number_of[other]].item()

    assert (alike.diagonal() == 1).all()
    assert between("Cl", "Br") > between("Cl", "I") > between("Cl", "Na")
    assert between("Fe", "Co") > between("Fe", "Ni") > between("Fe", "K")
    assert between("La", "Ce") > between("La", "Yb") > between("La", "F")


def test_vectors_are_a_sample_of_it() -> None:
    torch.manual_seed(0)
    vectors = element_vectors(4000, dtype=torch.float64).weight.detach()
    found = (vectors @ vectors.T / 4000).numpy()
    np.testing.assert_allclose(found, covariance(), atol=0.1, rtol=0)
