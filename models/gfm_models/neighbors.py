"""The only neighbour-list call of the project."""

import numpy as np
import torch
import vesin
from jaxtyping import Bool, Float, Int

MOST_CELLS = 1e5
"""Cells that vesin divides a box into at most."""

SAME_POSITION = 1e-6
"""Å; two atoms closer than this are one mistake in the input, not a pair."""


def neighbor_list(
    positions: Float[np.ndarray, "nodes 3"],
    *,
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, "3"],
    cutoff: float,
) -> tuple[Int[np.ndarray, "2 edges"], Int[np.ndarray, "edges 3"]]:
    """All directed pairs closer than `cutoff`, periodic images included, without a cap.

    Works for cells smaller than the cutoff, skewed and left-handed cells, and mixed periodicity.

    Args:
        positions: Å, inside the cell or not.
        cell: Rows are lattice vectors in Å; rows of directions that are not periodic may be zero.
        pbc: Which directions repeat.
        cutoff: Å.

    Returns:
        `edge_index` (row 0 senders, row 1 receivers) sorted by receiver, and `shifts`, such that
        `positions[receiver] - positions[sender] + shifts @ cell` is shorter than the cutoff.

    Raises:
        ValueError: two atoms are at the same position, or a periodic direction has no lattice
            vector.
    """
    _check_cell(cell, pbc)
    search = safe_cutoff(_extents(positions, cell, pbc), cutoff)
    first, second, shifts, distances = vesin.NeighborList(
        cutoff=search, full_list=True, sorted=True, n_threads=torch.get_num_threads()
    ).compute(points=positions, box=cell, periodic=pbc, quantities="ijSd")
    if search > cutoff:
        near = distances < cutoff
        first, second, shifts, distances = (a[near] for a in (first, second, shifts, distances))
    if len(distances) and distances.min() < SAME_POSITION:
        pair = int(distances.argmin())
        raise ValueError(
            f"atoms {int(first[pair])} and {int(second[pair])} are at the same position; "
            "remove one of them or check the cell"
        )
    edge_index = np.stack([second, first]).astype(np.int64)
    return edge_index, -shifts.astype(np.int64)


def safe_cutoff(extents: Float[np.ndarray, "3"], cutoff: float) -> float:
    """A cutoff, the given one or longer, with which vesin can divide a box into cells.

    Up to version 0.6.2 at least, vesin scales its cells down to 10⁵; in a box that is thin and very
    wide it is then left with none along the thin side, and the process dies of a division by zero.

    Args:
        extents: Å; how far the box reaches in its three directions.
        cutoff: Å.
    """
    search = cutoff
    while True:
        n_cells = np.maximum(np.floor(extents / search), 1.0)
        shrink = np.cbrt(min(1.0, MOST_CELLS / n_cells.prod()))
        if n_cells.min() * shrink >= 1:
            return search
        search *= 1.5


def _extents(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Distances between opposite faces of the cell where it repeats, else the atoms' spread."""
    spread = np.ptp(positions, axis=0) if len(positions) else np.zeros(3)
    if not pbc.any():
        return spread
    lengths = np.linalg.norm(cell, axis=1)
    widest = np.full(3, np.linalg.norm(spread))
    if np.linalg.matrix_rank(cell) < 3:
        return np.where(pbc, lengths, widest)
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    return np.where(pbc, heights, widest)


def _check_cell(cell: np.ndarray, pbc: np.ndarray) -> None:
    vectors = cell[pbc]
    if len(vectors) and np.linalg.matrix_rank(vectors) < len(vectors):
        raise ValueError(
            f"pbc is {pbc.tolist()}, but the cell has no independent lattice vector for each "
            f"periodic direction: {cell.tolist()}; set the cell or switch the direction off"
        )
