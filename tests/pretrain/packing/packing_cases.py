"""Global batches made up, and the slow obvious way to deal them."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from gfm_pretrain.placement import place_heads

SIZES = [20.0, 55.0, 55.0, 300.0, 2000.0]
"""Of which costs are chosen; equal ones make ties."""

Costs = dict[str, np.ndarray]
Owners = dict[str, tuple[int, ...]]


def steps(
    n_steps: int, *, most_heads: int = 8, most_ranks: int = 20, most_structures: int = 30
) -> Iterator[tuple[Costs, Owners, int]]:
    """Costs of a step's structures by head, owners, and the number of ranks."""
    chance = np.random.default_rng(5)
    for _ in range(n_steps):
        n_heads, n_ranks = chance.integers(1, most_heads), int(chance.integers(1, most_ranks))
        costs = {
            f"head{h}": chance.choice(SIZES, chance.integers(1, most_structures))
            for h in range(n_heads)
        }
        placed = place_heads(
            [of_head.mean() * chance.uniform(5, 25) for of_head in costs.values()],
            n_ranks,
            method=("wrap-around", "whole-ranks", "everywhere")[chance.integers(3)],
            spreads=[chance.choice([0.0, 1.0]) * of_head.std() for of_head in costs.values()],
        )
        yield costs, dict(zip(costs, placed, strict=True)), n_ranks


def loads_of(
    costs: Costs, ranks: Mapping[str, np.ndarray], n_ranks: int, of_pass: float = 0.0
) -> np.ndarray:
    """What each rank has to do."""
    loads = np.zeros(n_ranks)
    for name, of_head in costs.items():
        np.add.at(loads, ranks[name], of_head)
        loads[np.unique(ranks[name])] += of_pass
    return loads


def plain(
    costs: Costs, owners: Owners, n_ranks: int, of_pass: float = 0.0
) -> dict[str, np.ndarray]:
    """The dearest structure first, of all heads, to the owner that has least afterwards."""
    loads = [0.0] * n_ranks
    taken = {name: np.zeros(len(of_head), dtype=int) for name, of_head in costs.items()}
    used: set[tuple[str, int]] = set()
    todo = sorted((-c, h, i) for h, name in enumerate(costs) for i, c in enumerate(costs[name]))
    for negative, h, i in todo:
        name = list(costs)[h]
        extra = {r: 0.0 if (name, r) in used else of_pass for r in owners[name]}
        rank = min(owners[name], key=lambda r: (loads[r] + extra[r], r))
        loads[rank] += extra[rank] - negative
        used.add((name, rank))
        taken[name][i] = rank
    return taken


def deal_slowly(costs: Sequence[int], loads: Sequence[int]) -> tuple[list[int], list[int]]:
    """One structure after the other to the first of the ranks that have least; and the loads."""
    loads, taken = list(loads), []
    for cost in costs:
        rank = loads.index(min(loads))
        loads[rank] += cost
        taken.append(rank)
    return taken, loads
