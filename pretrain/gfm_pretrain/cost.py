"""What a training step costs, by passes, atoms and edges; fitted to what was timed."""

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares

Count = TypeVar("Count", float, np.ndarray)

ATOM_RANGE = (0.25, 64.0)
"""Of the cost of an atom in edges; a fit beyond is one to noise."""
PASS_RANGE = (16.0, 2.0**24)
"""Of the cost of a pass in edges; below it counts as nothing."""
ATOM_STEPS_PER_OCTAVE = 2
PASS_STEPS_PER_OCTAVE = 1
OUTLIER = 0.1
"""Relative residual from which on a timing counts by its size and no longer by its square."""
PRIOR_WEIGHT = 0.5
"""Of the rough cost of an atom against one timing: it decides where all structures have as many
edges per atom, when timings cannot tell atoms from edges and it does not matter."""


@dataclass(frozen=True, kw_only=True)
class RelativeCost:
    """What placement and packing go by, in edges."""

    of_atom: float
    """Node products and readout of an atom, against the message of one neighbour."""
    of_pass: float
    """Of going through the network once, however little there is."""

    def of(self, n_atoms: Count, n_edges: Count) -> Count:
        """Cost of structures with so many atoms and edges, passes aside."""
        return self.of_atom * n_atoms + n_edges


ROUGH = RelativeCost(of_atom=4.0, of_pass=0.0)
"""Where nothing was measured. An atom costs 1 to 6 edges on a CPU, see benchmarks/RESULTS.md."""


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """Seconds that one rank takes for its part of a training step, fitted to timings."""

    per_pass: float
    """Seconds of a pass, however little there is in it."""
    per_atom: float
    """Seconds of an atom."""
    per_edge: float
    """Seconds of a directed edge."""
    residual: float
    """Median of |fitted / timed - 1|."""
    n_timings: int
    """Passes that were timed."""

    def seconds(self, *, n_passes: float, n_atoms: float, n_edges: float) -> float:
        """Of some passes with so many atoms and edges in all."""
        return n_passes * self.per_pass + n_atoms * self.per_atom + n_edges * self.per_edge

    @property
    def cost_of_atom(self) -> float:
        """In edges, as it was fitted, within `ATOM_RANGE`."""
        return _within(ATOM_RANGE, self.per_atom, self.per_edge)

    @property
    def cost_of_pass(self) -> float:
        """In edges, as it was fitted, up to `PASS_RANGE`."""
        return _within((0.0, PASS_RANGE[1]), self.per_pass, self.per_edge)

    @property
    def relative(self) -> RelativeCost:
        """In edges, on a coarse grid, so that most runs alike find the same in spite of noise.

        An atom costs a power of √2, a pass a power of 2. Half a grid step in the cost of an atom,
        where that is 4, shifts the loads of structures with 10 and with 60 edges per atom against
        one another by 4 %.
        """
        of_pass = self.cost_of_pass
        return RelativeCost(
            of_atom=_on_grid(self.cost_of_atom, ATOM_STEPS_PER_OCTAVE),
            of_pass=_on_grid(of_pass, PASS_STEPS_PER_OCTAVE) if of_pass >= PASS_RANGE[0] else 0.0,
        )


def fit_cost(timings: Float[np.ndarray, "passes 3"]) -> StepCost:
    """Fit seconds = a + b · atoms + c · edges to passes, robustly.

    Minimises the sum of a loss, square for small and linear for large ones, of the relative
    residuals; a, b and c are not negative.

    Args:
        timings: Atoms, edges and seconds of at least one pass.
    """
    sizes = np.column_stack([np.ones(len(timings)), timings[:, :2]])
    relative = sizes / timings[:, 2:]
    scale = np.maximum(relative.mean(0), np.finfo(float).tiny)  # unknowns of order one
    prior = PRIOR_WEIGHT * np.array([0.0, 1.0, -ROUGH.of_atom]) * relative[:, 1].mean() / scale
    rows = np.vstack([relative / scale, prior])
    wanted = np.append(np.ones(len(timings)), 0.0)
    found = least_squares(
        lambda unknowns: rows @ unknowns - wanted,
        np.full(3, 1 / 3),
        jac=lambda _: rows,  # pyright: ignore[reportArgumentType] (a function is valid)
        bounds=(0.0, np.inf),
        loss="soft_l1",
        f_scale=OUTLIER,
    )
    a, b, c = (found.x / scale).tolist()
    residuals = relative @ (found.x / scale) - 1
    return StepCost(
        per_pass=a,
        per_atom=b,
        per_edge=c,
        residual=float(np.median(np.abs(residuals))),
        n_timings=len(timings),
    )


def _within(bounds: tuple[float, float], cost: float, of_edge: float) -> float:
    """Cost over that of an edge, which a poor fit may say is free."""
    low, high = bounds
    return min(max(cost / of_edge, low), high) if of_edge > 0 else high


def _on_grid(value: float, steps_per_octave: int) -> float:
    return 2.0 ** (round(steps_per_octave * math.log2(value)) / steps_per_octave)
