"""The vectors that stand for elements, as they are before training."""

import functools

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from gfm_models.graph import MAX_ATOMIC_NUMBER

NOBLE_GASES = (0, 2, 10, 18, 36, 54, 86, 118)
"""Where periods end; 0 is the end of none."""

LENGTHS = (1.5, 3.0, 7.0)
"""How far likeness reaches: in periods, groups, and places within the f block."""

OWN_PART = 0.2
"""Part of the variance that an element shares with no other."""


def element_vectors(length: int, *, dtype: torch.dtype) -> nn.Embedding:
    """One trainable vector for each atomic number from 0 on, components of variance one.

    They begin as a sample of a Gaussian process over the periodic table: elements of one group in
    neighbouring periods, and neighbours in a period, are alike before any has been seen, so that
    what is learned of one is a guess for the other. Training moves each by itself.
    """
    vectors = nn.Embedding(MAX_ATOMIC_NUMBER + 1, length, dtype=dtype)
    sample = torch.randn(MAX_ATOMIC_NUMBER + 1, length, dtype=torch.float64, device="cpu")
    if not vectors.weight.is_meta:
        with torch.no_grad():
            vectors.weight.copy_(torch.from_numpy(_factor() @ sample.numpy()))
    return vectors


@functools.cache
def _factor() -> Float[np.ndarray, "elements elements"]:
    """What makes a sample of it from independent numbers."""
    return np.linalg.cholesky(covariance())


def covariance() -> Float[np.ndarray, "elements elements"]:
    """How alike elements are taken to be, 1 on the diagonal; by atomic number from 0 on."""
    places = np.array([place(z) for z in range(MAX_ATOMIC_NUMBER + 1)], dtype=float)
    apart = (places[:, None] - places) / np.array(LENGTHS)
    alike = np.exp(-(apart**2).sum(-1) / 2)
    return (1 - OWN_PART) * alike + OWN_PART * np.eye(len(places))


def place(atomic_number: int) -> tuple[int, int, int]:
    """Period, group (3 for the f block) and place within the f block, 0 outside of it."""
    period = sum(atomic_number > last for last in NOBLE_GASES)
    first, last = NOBLE_GASES[max(period - 1, 0)], NOBLE_GASES[min(period, 7)]
    column, from_end = atomic_number - first, last - atomic_number
    if column <= 2 and from_end > 0:
        return period, column, 0
    if from_end < 16:
        return period, 18 - from_end, 0
    return period, 3, column - 2
