"""The last layer from sums: planted weights are found, noise is not learned by heart."""

import numpy as np
import pytest
from gfm_pretrain.readout_solution import FOLDS, RIDGES, Solution, solve

WIDTH = 8
EQUAL = np.array([1.0, 1.0, 1.0])
N_ENERGIES, N_FORCES = 100, 600


def problem(
    *, noise: tuple[float, float], n: tuple[int, int] = (N_ENERGIES, N_FORCES), apart: float = 0.0
) -> tuple[list[np.ndarray], np.ndarray]:
    """Rows of energies and forces that follow the same weights, and the weights.

    Energies follow others, by `apart`, where there is to be something to choose between.
    """
    rng = np.random.default_rng(0)
    truth = rng.standard_normal(WIDTH)
    kinds = []
    for size, of_noise, weights in zip(
        n, noise, (truth + apart * rng.standard_normal(WIDTH), truth), strict=True
    ):
        x = rng.standard_normal((size, WIDTH))
        kinds.append(np.column_stack([x, x @ weights + of_noise * rng.standard_normal(size)]))
    return kinds, truth


def sums(kinds: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Of rows, each with the weight one; there are no stresses."""
    squares = np.zeros((FOLDS, 3, WIDTH + 1, WIDTH + 1))
    weights = np.zeros((FOLDS, 3))
    for kind, rows in enumerate(kinds):
        for fold in range(FOLDS):
            squares[fold, kind] = rows[fold::FOLDS].T @ rows[fold::FOLDS]
            weights[fold, kind] = len(rows[fold::FOLDS])
    return squares, weights


def solved(kinds: list[np.ndarray], importance: np.ndarray = EQUAL) -> Solution:
    found = solve(*sums(kinds), importance)
    assert found is not None
    return found


def left(kinds: list[np.ndarray], found: Solution) -> list[float]:
    """Root-mean-square errors of each kind."""
    return [float(np.std(rows[:, -1] - rows[:, :-1] @ found.change)) for rows in kinds]


def test_planted_weights_are_found():
    kinds, truth = problem(noise=(1e-3, 1e-3))
    found = solved(kinds)
    np.testing.assert_allclose(found.change, truth, atol=2e-3)
    assert found.ridge <= 1e-4
    assert found.held_out[2] is None
    assert all(ratio is not None and ratio < 0.01 for ratio in found.held_out[:2])


def test_what_it_says_of_structures_left_out_is_what_new_ones_show():
    kinds, truth = problem(noise=(0.5, 2.0), n=(4000, 4000))
    found = solved(kinds)
    fresh = np.random.default_rng(1).standard_normal((10_000, WIDTH))
    off = float(np.var(fresh @ (truth - found.change)))
    for ratio, rows, noise in zip(found.held_out, kinds, (0.5, 2.0), strict=False):
        expected = np.sqrt((off + noise**2) / np.mean(rows[:, -1] ** 2))
        assert ratio == pytest.approx(expected, rel=0.05)


def test_a_large_ridge_where_a_small_one_is_hardly_better():
    kinds, _ = problem(noise=(1.0, 1.0))
    assert solved(kinds).ridge == max(RIDGES)


def test_what_is_hardly_better_stays_as_it_was():
    kinds, truth = problem(noise=(8.0, 8.0), n=(4000, 4000))
    settled = [
        rows - np.outer(rows[:, :-1] @ (0.7 * truth), np.eye(WIDTH + 1)[-1]) for rows in kinds
    ]
    assert solve(*sums(settled), EQUAL) is None
    assert solve(*sums(kinds), EQUAL) is not None


def test_noise_is_not_learned():
    rng = np.random.default_rng(2)
    kinds = [rng.standard_normal((60, WIDTH + 1)), rng.standard_normal((60, WIDTH + 1))]
    assert solve(*sums(kinds), EQUAL) is None


def test_few_energies_are_not_fitted_at_the_expense_of_forces():
    """Fewer than weights: their errors could be made nothing, and mean nothing."""
    rng = np.random.default_rng(3)
    forces, _ = problem(noise=(0.0, 1.0))
    already = solved(forces[1:]).change
    settled = forces[1] - np.outer(forces[1][:, :-1] @ already, np.eye(WIDTH + 1)[-1])
    assert solve(*sums([rng.standard_normal((FOLDS, WIDTH + 1)), settled]), EQUAL) is None


def test_importance_chooses_between_kinds():
    kinds, _ = problem(noise=(0.1, 0.1), apart=0.5)
    energies_first = left(kinds, solved(kinds, np.array([10.0, 1.0, 1.0])))
    forces_first = left(kinds, solved(kinds, np.array([0.1, 1.0, 1.0])))
    assert energies_first[0] < 0.5 * forces_first[0]
    assert forces_first[1] < 0.5 * energies_first[1]


def test_units_do_not_matter():
    """Energies in other units, the weights of rows with them, give the same weights."""
    kinds, _ = problem(noise=(0.1, 0.1), apart=0.5)
    in_other_units = [1000 * kinds[0], kinds[1]]
    np.testing.assert_allclose(solved(in_other_units).change, solved(kinds).change, rtol=1e-8)


def test_a_kind_without_weight_does_not_count():
    kinds, truth = problem(noise=(0.0, 1e-3), apart=2.0)
    found = solved(kinds, np.array([0.0, 1.0, 1.0]))
    np.testing.assert_allclose(found.change, truth, atol=2e-3)
    assert found.held_out[0] is None


@pytest.mark.parametrize("of", ["errors", "weights", "rows", "folds"])
def test_nothing_to_solve_for(of):
    kinds, _ = problem(noise=(0.1, 0.1))
    squares, weights = sums(kinds)
    if of == "errors":
        squares[..., -1, :] = squares[..., :, -1] = 0.0
    elif of == "weights":
        squares[..., :-1, :] = squares[..., :, :-1] = 0.0
    elif of == "rows":
        squares[:], weights[:] = 0.0, 0.0
    else:
        squares[1:, 0], weights[1:, 0] = 0.0, 0.0
    assert solve(squares, weights, EQUAL) is None
