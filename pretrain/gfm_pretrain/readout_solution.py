"""Which weights a readout's last layer should have, from sums over its training set.

With everything before the layer fixed, errors are linear in its weights. What is smallest is

    Σ_k λ_k log <h (y - x·c)²>_k  +  a ridge on c,      k: energies, forces, stresses

symbol → variable: c → change of the weights; x, y → a row: what each weight adds to a label, and
the error that it has now; h → weights of rows, that far outliers count as their absolute value;
λ_k → importance. Logarithms make errors of all kinds count by their own size, whatever their
units: a tenth off the energies is worth as much as λ_energy / λ_forces tenths off the forces.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

FOLDS = 5
"""Parts of the structures: each is predicted from the others, to choose the ridge."""
RIDGES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Times the mean curvature, the largest first; changing nothing is one without end."""
ROUNDS = 20
"""Of solving with the errors of the round before; they change by less than a percent after ten."""
SMALLEST_GAIN = 0.01
"""Decrease of root-mean-square errors, their mean by importance, that is worth other weights."""
ENOUGH = 0.9
"""Part of the best ridge's gain that is enough for a larger ridge: small weights are safer where
structures are unlike those of the training set."""
SMALLEST_LEFT = 1e-3
"""Part of a mean square error beyond which its decrease is worth no more."""

Squares = Float64[np.ndarray, "folds kinds rows rows"]
"""Sums of h (x, y) ⊗ (x, y), the error last."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """What is to be added to the weights, and what it does to structures it was not made from."""

    change: Float64[np.ndarray, " width"]
    ridge: float
    """The largest of `RIDGES` that predicts about as well as the best."""
    held_out: tuple[float | None, ...]
    """Root-mean-square errors in units of what they were, for each kind that there is."""


def solve(
    squares: Squares,
    weights: Float64[np.ndarray, "folds kinds"],
    importance: Float64[np.ndarray, " kinds"],
) -> Solution | None:
    """The best change, or none where structures that were left out say that it is no better.

    Args:
        squares: Of the structures of each fold.
        weights: Sums of h.
        importance: λ of each kind; kinds with zero, or without rows, do not count.
    """
    counts = (importance > 0) & (weights.sum(0) > 0)
    squares, weights, importance = squares[:, counts], weights[:, counts], importance[counts]
    left_out = [_means(squares, weights, without=fold) for fold in range(len(squares))]
    if not counts.any() or not weights.all() or not _can_improve(left_out):
        return None
    nothing = [np.zeros(squares.shape[-1] - 1)] * len(squares)
    before = _held_out(squares, weights, nothing)
    ratios = {
        ridge: np.sqrt(
            _held_out(squares, weights, [_best(m, importance, ridge) for m in left_out]) / before
        )
        for ridge in RIDGES
    }
    gains = {r: -(importance @ np.log(ratios[r])) / importance.sum() for r in RIDGES}
    best = max(gains.values())
    if best < SMALLEST_GAIN:
        return None
    ridge = next(r for r in RIDGES if gains[r] >= ENOUGH * best)
    held_out = iter(ratios[ridge].tolist())
    return Solution(
        change=_best(_means(squares, weights), importance, ridge),
        ridge=ridge,
        held_out=tuple(next(held_out) if there else None for there in counts),
    )


def _means(
    squares: Squares, weights: Float64[np.ndarray, "folds kinds"], *, without: int | None = None
) -> Float64[np.ndarray, "kinds rows rows"]:
    used = [fold for fold in range(len(squares)) if fold != without]
    total = weights[used].sum(0)
    return squares[used].sum(0) / np.where(total > 0, total, 1.0)[:, None, None]


def _can_improve(left_out: list[Float64[np.ndarray, "kinds rows rows"]]) -> bool:
    """Whether there are errors, and weights that they depend on."""
    return all(
        (m[:, -1, -1] > 0).all() and m[:, :-1, :-1].trace(axis1=1, axis2=2).sum() > 0
        for m in left_out
    )


def _best(
    means: Float64[np.ndarray, "kinds rows rows"],
    importance: Float64[np.ndarray, " kinds"],
    ridge: float,
) -> Float64[np.ndarray, " width"]:
    """The minimum: each round's problem is quadratic and lies above the logarithms."""
    width = means.shape[-1] - 1
    change, least = np.zeros(width), SMALLEST_LEFT * means[:, -1, -1]
    for _ in range(ROUNDS):
        left = np.maximum(_mean_squares(means, change), least)
        joint = np.tensordot(importance / left, means, axes=1)
        curvature = joint[:-1, :-1]
        step = ridge * np.trace(curvature) / width * np.eye(width)
        change = np.linalg.solve(curvature + step, joint[:-1, -1])
    return change


def _mean_squares(
    means: Float64[np.ndarray, "kinds rows rows"], change: Float64[np.ndarray, " width"]
) -> Float64[np.ndarray, " kinds"]:
    row = np.append(-change, 1.0)
    return means @ row @ row


def _held_out(
    squares: Squares,
    weights: Float64[np.ndarray, "folds kinds"],
    changes: list[Float64[np.ndarray, " width"]],
) -> Float64[np.ndarray, " kinds"]:
    """Mean squares of errors of each fold after a change that was made without it."""
    sums = [_mean_squares(of_fold, c) for of_fold, c in zip(squares, changes, strict=True)]
    return np.maximum(np.sum(sums, axis=0), np.finfo(float).tiny) / weights.sum(0)
