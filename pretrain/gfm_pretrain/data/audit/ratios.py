"""How often a quantity changed by each multiple of what it should: counts in bins, no sums.

Counts of several processes add up to the same in any order, which sums of numbers do not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

from gfm_pretrain.data.audit.bins import filled, not_empty

BIN_WIDTH = 0.02
"""Of the logarithm of a ratio, 2 %: less than what tells any two units apart."""
LARGEST_LOGARITHM = 11.52
"""Ratios beyond 10^5 or below 10^-5 count as these: one of the two does not change."""
N_BINS = round(2 * LARGEST_LOGARITHM / BIN_WIDTH)
"""Of the ratios of either sign."""
SMALLEST_CHANGE = 0.01
"""eV, of either; below, the digits of published energies matter."""


def _no_counts() -> Int64[np.ndarray, " bins"]:
    return np.zeros(2 * N_BINS, dtype=np.int64)


@dataclass(eq=False)
class Ratios:
    """Counts of the ratio of a change of energy to the work that should have caused it."""

    counts: Int64[np.ndarray, " bins"] = field(default_factory=_no_counts)
    """From large negative ratios over small ones to large positive ones."""

    def __len__(self) -> int:
        return int(self.counts.sum())

    def add(self, change: float, work: float) -> None:
        """Count one pair, both in eV, unless nothing happens in it."""
        if max(abs(change), abs(work)) < SMALLEST_CHANGE:
            return
        tiny = np.finfo(np.float64).tiny
        logarithm = np.log(max(abs(change), tiny)) - np.log(max(abs(work), tiny))
        place = int(np.clip((logarithm + LARGEST_LOGARITHM) / BIN_WIDTH, 0, N_BINS - 1))
        same_sign = (change >= 0) == (work >= 0)
        self.counts[N_BINS + place if same_sign else N_BINS - 1 - place] += 1

    def quantile(self, part: float) -> float:
        """The ratio that this part of the pairs, 0 to 1, does not exceed; there must be pairs."""
        place = int(np.searchsorted(np.cumsum(self.counts), part * len(self)))
        size = place - N_BINS if place >= N_BINS else N_BINS - 1 - place
        ratio = float(np.exp((size + 0.5) * BIN_WIDTH - LARGEST_LOGARITHM))
        return ratio if place >= N_BINS else -ratio

    def to_mapping(self) -> dict[str, int]:
        """Plain values for JSON: the bins that are not empty."""
        return not_empty(self.counts)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, int]) -> "Ratios":
        """From what `to_mapping` gave."""
        return cls(filled(mapping, number=2 * N_BINS))
