"""The only neighbour-list call of the project."""

import numpy as np
import torch
import vesin
from jaxtyping import Bool, Float, Int

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
    first, second, shifts, distances = vesin.NeighborList(
        cutoff=cutoff, full_list=True, sorted=True, n_threads=torch.get_num_threads()
    ).compute(points=positions, box=cell, periodic=pbc, quantities="ijSd")
    if len(distances) and distances.min() < SAME_POSITION:
        pair = int(distances.argmin())
        raise ValueError(
            f"atoms {int(first[pair])} and {int(second[pair])} are at the same position; "
            "remove one of them or check the cell"
        )
    edge_index = np.stack([second, first]).astype(np.int64)
    return edge_index, -shifts.astype(np.int64)


def _check_cell(cell: np.ndarray, pbc: np.ndarray) -> None:
    vectors = cell[pbc]
    if len(vectors) and np.linalg.matrix_rank(vectors) < len(vectors):
        raise ValueError(
            f"pbc is {pbc.tolist()}, but the cell has no independent lattice vector for each "
            f"periodic direction: {cell.tolist()}; set the cell or switch the direction off"
        )
