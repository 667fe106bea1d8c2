"""How dear a step of a head is on average, and by how much one step differs from another."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Int64

from gfm_pretrain.cost import RelativeCost


@dataclass(frozen=True, kw_only=True)
class SizeStatistics:
    """Sums over the structures of a set, exact."""

    n_structures: int
    """Number of structures, at least one."""
    atoms: int
    """Σ n, n being the atoms of a structure."""
    edges: int
    """Σ e, e being its directed edges."""
    atoms_atoms: int
    """Σ n²"""
    atoms_edges: int
    """Σ n e"""
    edges_edges: int
    """Σ e²"""

    def mean_cost(self, cost: RelativeCost) -> float:
        """Of a structure, in edges."""
        return cost.of(self.atoms, self.edges) / self.n_structures

    def variance(self, cost: RelativeCost) -> float:
        """Of the cost of a structure."""
        square = self.edges_edges + 2 * cost.of_atom * self.atoms_edges
        square += cost.of_atom**2 * self.atoms_atoms
        return max(0.0, square / self.n_structures - self.mean_cost(cost) ** 2)

    def step_spread(self, batch_size: Fraction, cost: RelativeCost) -> float:
        """Standard deviation of the cost of the structures of a step.

        With b of n structures drawn without replacement it is the root of b (1 - b/n) v, v being
        the variance of one; whole epochs in a step add nothing. A step whose number of structures
        changes by one, having one more with probability p, adds p (1 - p) times the squared mean.
        """
        part = float(batch_size % self.n_structures)
        more = float(batch_size % 1)
        of_choice = part * (1 - part / self.n_structures) * self.variance(cost)
        return math.sqrt(of_choice + more * (1 - more) * self.mean_cost(cost) ** 2)


def size_statistics(
    runs: Iterable[tuple[Int64[np.ndarray, " run"], Int64[np.ndarray, " run"]]],
) -> SizeStatistics:
    """Add up the atoms and edges of runs of structures."""
    sums = [0] * 6
    for n_atoms, n_edges in runs:
        found = (len(n_atoms), n_atoms.sum(), n_edges.sum())
        squares = (n_atoms @ n_atoms, n_atoms @ n_edges, n_edges @ n_edges)
        sums = [before + int(more) for before, more in zip(sums, (*found, *squares), strict=True)]
    names = ("n_structures", "atoms", "edges", "atoms_atoms", "atoms_edges", "edges_edges")
    return SizeStatistics(**dict(zip(names, sums, strict=True)))
