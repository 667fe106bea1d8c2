"""The neighbour list against a double loop over atoms and images."""

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from gfm_models import neighbors
from gfm_models.neighbors import neighbor_list

Edge = tuple[int, int, tuple[int, int, int]]

CUTOFF = 3.0
CELLS = {
    "cubic": np.diag([4.0, 4.0, 4.0]),
    "skewed": np.array([[4.0, 0.0, 0.0], [3.0, 3.5, 0.0], [-2.5, 2.0, 3.0]]),
    "left-handed": np.array([[0.0, 4.0, 0.3], [3.8, 0.1, 0.0], [0.2, 0.5, 4.2]]),
    "smaller than the cutoff": np.array([[1.1, 0.0, 0.2], [0.3, 1.3, 0.0], [0.0, 0.4, 1.2]]),
    "needle": np.array([[1.0, 0.0, 0.0], [0.9, 0.5, 0.0], [0.0, 0.0, 9.0]]),
}
PERIODICITIES = list(product([False, True], repeat=3))


def slow_neighbors(
    positions: np.ndarray, *, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> set[Edge]:
    """Every sender, receiver and shift with a vector shorter than the cutoff, by trying them.

    A row of the reciprocal cell bounds how many lattice vectors fit into the cutoff.
    """
    reciprocal = np.linalg.pinv(np.where(pbc[:, None], cell, 0.0))
    reach = np.where(pbc, cutoff * np.linalg.norm(reciprocal, axis=0), 0.0)
    found = set()
    for sender, receiver in product(range(len(positions)), repeat=2):
        vector = positions[receiver] - positions[sender]
        middle = np.where(pbc, -vector @ reciprocal, 0.0)
        low, high = np.floor(middle - reach).astype(int), np.ceil(middle + reach).astype(int)
        for a, b, c in product(*(range(x, y + 1) for x, y in zip(low, high, strict=True))):
            distance = np.linalg.norm(vector + np.array([a, b, c]) @ cell)
            if distance < cutoff and (sender != receiver or (a, b, c) != (0, 0, 0)):
                found.add((sender, receiver, (a, b, c)))
    return found


def fast_neighbors(
    positions: np.ndarray, *, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> list[Edge]:
    (senders, receivers), shifts = neighbor_list(positions, cell=cell, pbc=pbc, cutoff=cutoff)
    return [
        (int(s), int(r), (int(a), int(b), int(c)))
        for s, r, (a, b, c) in zip(senders, receivers, shifts, strict=True)
    ]


@pytest.mark.parametrize("pbc", PERIODICITIES, ids=str)
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("far", [0, 9], ids=["inside the cell", "outside the cell"])
def test_same_edges_as_the_double_loop(name: str, pbc: tuple[bool, ...], far: int) -> None:
    cell, periodic = CELLS[name], np.array(pbc)
    generator = np.random.default_rng(0)
    fractions = generator.uniform(0, 1, (5, 3))
    fractions += generator.integers(-far, far, (5, 3), endpoint=True) * periodic
    positions = fractions @ cell
    found = fast_neighbors(positions, cell=cell, pbc=periodic, cutoff=CUTOFF)
    expected = slow_neighbors(positions, cell=cell, pbc=periodic, cutoff=CUTOFF)
    assert expected
    assert len(found) == len(set(found)), "an edge twice"
    assert set(found) == expected


def test_edges_are_sorted_by_receiver_and_within_the_cutoff() -> None:
    cell, pbc = CELLS["skewed"], np.ones(3, dtype=bool)
    positions = np.random.default_rng(1).uniform(-9, 9, (20, 3))
    (senders, receivers), shifts = neighbor_list(positions, cell=cell, pbc=pbc, cutoff=CUTOFF)
    vectors = positions[receivers] - positions[senders] + shifts @ cell
    assert len(receivers)
    assert (np.diff(receivers) >= 0).all()
    assert (np.linalg.norm(vectors, axis=1) < CUTOFF).all()
    assert senders.dtype == receivers.dtype == shifts.dtype == np.int64


def test_the_number_of_neighbors_has_no_cap() -> None:
    """500 atoms in a ball of 1 Å: everyone is everyone's neighbour."""
    generator = np.random.default_rng(2)
    positions = generator.normal(size=(500, 3))
    positions *= generator.uniform(0, 1, (500, 1)) / np.linalg.norm(positions, axis=1)[:, None]
    edge_index, _ = neighbor_list(
        positions, cell=np.zeros((3, 3)), pbc=np.zeros(3, dtype=bool), cutoff=CUTOFF
    )
    assert edge_index.shape[1] == 500 * 499


@pytest.mark.parametrize("n_atoms", [0, 1])
def test_nothing_to_pair(n_atoms: int) -> None:
    edge_index, shifts = neighbor_list(
        np.zeros((n_atoms, 3)), cell=np.zeros((3, 3)), pbc=np.zeros(3, dtype=bool), cutoff=CUTOFF
    )
    assert edge_index.shape == (2, 0)
    assert shifts.shape == (0, 3)


def test_atoms_at_one_position_are_refused() -> None:
    positions = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    with pytest.raises(ValueError, match="atoms 0 and 2 are at the same position"):
        neighbor_list(positions, cell=np.zeros((3, 3)), pbc=np.zeros(3, dtype=bool), cutoff=CUTOFF)


def test_atoms_at_one_position_in_different_cells_are_refused() -> None:
    positions = np.array([[0.5, 0.0, 0.0], [8.5, 4.0, -4.0]])
    with pytest.raises(ValueError, match="are at the same position"):
        neighbor_list(positions, cell=CELLS["cubic"], pbc=np.ones(3, dtype=bool), cutoff=CUTOFF)


@pytest.mark.parametrize(
    "cell",
    [np.zeros((3, 3)), np.diag([4.0, 4.0, 0.0]), np.array([[4.0, 0, 0], [0, 0, 4], [4, 0, 4]])],
    ids=["no vectors", "one missing", "in one plane"],
)
def test_periodic_directions_need_independent_lattice_vectors(cell: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no independent lattice vector for each periodic"):
        neighbor_list(np.zeros((1, 3)), cell=cell, pbc=np.ones(3, dtype=bool), cutoff=CUTOFF)


THIN_AND_WIDE = {
    "two atoms far apart": ([[0, 0, 0], [2000, 2000, 1]], [0, 0, 0], [False] * 3),
    "a wide sheet": ([[0, 0, 0], [1999, 1999, 1]], [2000, 2000, 4], [True] * 3),
    "a line": ([[0, 0, 0], [9e3, 0, 0]], [0, 0, 0], [False] * 3),
    "an atom far from a slab": ([[0, 0, 0], [1, 1, 9e3]], [3, 3, 0], [True, True, False]),
}


@pytest.mark.parametrize("name", THIN_AND_WIDE)
def test_thin_and_wide_boxes_do_not_kill_the_process(name: str) -> None:
    positions, cell, pbc = THIN_AND_WIDE[name]
    program = (
        "import numpy as np; from gfm_models.neighbors import neighbor_list; "
        f"print(neighbor_list(np.array({positions}, dtype=float), cell=np.diag({cell}) * 1.0, "
        f"pbc=np.array({pbc}), cutoff=5.0)[0].shape[1])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0 if any(pbc) else int(done.stdout) == 0


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
def test_a_longer_search_finds_the_same_edges(
    pbc: tuple[bool, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    positions = np.random.default_rng(0).uniform(0, 1, (40, 3)) * [20, 20, 4]
    arguments = {"cell": np.diag([20.0, 20.0, 4.0]), "pbc": np.array(pbc), "cutoff": 3.0}
    expected = neighbor_list(positions, **arguments)
    monkeypatch.setattr(neighbors, "MOST_CELLS", 2.0)
    assert neighbors.safe_cutoff(np.array([20.0, 20.0, 4.0]), 3.0) > 3.0
    found = neighbor_list(positions, **arguments)
    assert edges_of(found) == edges_of(expected)
    assert (np.diff(found[0][1]) >= 0).all()


def edges_of(found: tuple[np.ndarray, np.ndarray]) -> list[tuple[int, ...]]:
    edge_index, shifts = found
    return sorted(map(tuple, np.concatenate([edge_index.T, shifts], axis=1).tolist()))
