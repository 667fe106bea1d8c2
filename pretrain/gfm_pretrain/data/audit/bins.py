"""Bins in which values are counted, and the extent of values: both merge with those of others."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64

Values = Float[np.ndarray, " values"]


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Where values are counted; those beyond an end count in the bin at that end."""

    start: float
    """Lower end of the first bin, or its power of 10."""
    stop: float
    """Upper end of the last bin, or its power of 10."""
    number: int
    """How many of equal width."""
    logarithmic: bool = False
    """Whether the ends are powers of 10."""

    @property
    def edges(self) -> Float64[np.ndarray, " number_and_1"]:
        """Where each bin begins, and the end of the last."""
        edges = np.linspace(self.start, self.stop, self.number + 1)
        return 10**edges if self.logarithmic else edges

    def count(self, values: Values) -> Int64[np.ndarray, " number"]:
        """How many values lie in each bin."""
        if self.logarithmic:
            values = np.log10(np.maximum(values, 10**self.start))
        places = (values - self.start) * (self.number / (self.stop - self.start))
        inside = np.clip(places, 0, self.number - 1).astype(np.int64)
        return np.bincount(inside, minlength=self.number)


def not_empty(counts: Int64[np.ndarray, " bins"]) -> dict[str, int]:
    """Counts as plain values for JSON, by the place of the bin."""
    return {str(place): int(counts[place]) for place in np.flatnonzero(counts)}


def filled(mapping: Mapping[str, int], *, number: int) -> Int64[np.ndarray, " number"]:
    """Counts from what `not_empty` gave."""
    counts = np.zeros(number, dtype=np.int64)
    for place, count in mapping.items():
        counts[int(place)] = count
    return counts


@dataclass(eq=False)
class Extent:
    """Number, mean, spread and range of values that are not kept."""

    n: int = 0
    """How many."""
    total: float = 0.0
    """Their sum."""
    squares: float = 0.0
    """Sum of their squares."""
    low: float = np.inf
    """The smallest."""
    high: float = -np.inf
    """The largest."""

    @property
    def rms(self) -> float:
        """Root mean square; there must be values."""
        return float(np.sqrt(self.squares / self.n))

    @property
    def spread(self) -> float:
        """Standard deviation; there must be values."""
        return float(np.sqrt(max(0.0, self.squares / self.n - (self.total / self.n) ** 2)))

    def add(self, values: Values) -> None:
        """Take in values."""
        if len(values):
            squares = float(values @ values)
            low, high = float(values.min()), float(values.max())
            self.merge(Extent(len(values), float(values.sum()), squares, low, high))

    def merge(self, other: "Extent") -> None:
        """Take in the values that another has seen."""
        self.n += other.n
        self.total += other.total
        self.squares += other.squares
        self.low = min(self.low, other.low)
        self.high = max(self.high, other.high)

    def to_list(self) -> list[float]:
        """Plain values for JSON, `Extent(*…)` of which gives it back; none without values."""
        return list(astuple(self)) if self.n else []
