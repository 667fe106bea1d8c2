"""By how much pressures are off: what the energy does when a cell swells, beside its stress.

With too few plane waves a stress is not the derivative of the energies that were computed with it
(Pulay stress), and labels that were collected from two calculations need not belong together. Unit
and sign are right then, and a model that learns both has worse energies.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from ase.units import GPa
from jaxtyping import Int64

from gfm_pretrain.data.audit.bins import Bins, filled, not_empty

OFFSETS = Bins(start=-50.0, stop=50.0, number=1000)
"""GPa; what is beyond is no offset, but a wrong unit."""
WINDOW = 10
"""Bins, 1 GPa: offsets that are the same but for errors of second order in the strain."""
SMALLEST_SWELLING = 0.01
"""Of the volume; below, errors of second order in the strain count for more."""


def _no_counts() -> Int64[np.ndarray, " bins"]:
    return np.zeros(OFFSETS.number, dtype=np.int64)


@dataclass(eq=False)
class PressureOffsets:
    """Counts of the pressure that is missing in the stress for the energy to be its work."""

    counts: Int64[np.ndarray, " bins"] = field(default_factory=_no_counts)
    """Of pairs of configurations, in `OFFSETS`."""

    def __len__(self) -> int:
        return int(self.counts.sum())

    def add(self, missing: float, *, volume: float, swelling: float) -> None:
        """Count one pair, unless its volumes are much the same.

        Args:
            missing: Change of the energy without the work of forces and stress, in eV.
            volume: Of the first cell, in Å³.
            swelling: Volume of the second without that of the first.
        """
        if abs(swelling) > SMALLEST_SWELLING * volume:
            self.counts += OFFSETS.count(np.array([-missing / swelling / GPa]))

    def commonest(self, *, beyond: float = 0.0) -> tuple[float, int]:
        """The mean in GPa of the `WINDOW` with most pairs, and how many these are.

        The first and the last of `OFFSETS`, with what is outside, are in no window.

        Args:
            beyond: GPa; windows that begin nearer to zero do not count.
        """
        counts, edges = self.counts[1:-1], OFFSETS.edges[1:-1]
        inside = np.convolve(counts, np.ones(WINDOW, dtype=np.int64), mode="valid")
        first, last = edges[: len(inside)], edges[WINDOW:]
        inside[(first < beyond) & (last > -beyond)] = 0
        window = slice(start := int(inside.argmax()), start + WINDOW)
        if inside[start] == 0:
            return 0.0, 0
        middles = (edges[:-1] + edges[1:])[window] / 2
        return float(np.average(middles, weights=counts[window])), int(inside[start])

    def to_mapping(self) -> dict[str, int]:
        """Plain values for JSON: the bins that are not empty."""
        return not_empty(self.counts)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, int]) -> "PressureOffsets":
        """From what `to_mapping` gave."""
        return cls(filled(mapping, number=OFFSETS.number))
