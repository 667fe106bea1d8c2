"""What each rank gets to do in a step: structures drawn and dealt exactly as the engine does it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from gfm_pretrain.data.structure_set import Places
from gfm_pretrain.packing.pack import pack
from gfm_pretrain.packing.passes import split_by_size
from gfm_pretrain.plan.workload import Owners, Workload


@dataclass(frozen=True, kw_only=True, eq=False)
class Dealt:
    """Sizes of what each rank has of each head in one step."""

    n_structures: Int[np.ndarray, "heads ranks"]
    """Structures."""
    n_atoms: Int[np.ndarray, "heads ranks"]
    """Atoms of all of them."""
    n_edges: Int[np.ndarray, "heads ranks"]
    """Directed edges inside the cutoff."""
    costs: Float[np.ndarray, "heads ranks"]
    """Of the atoms, edges and passes, in edges."""
    n_passes: Int[np.ndarray, "heads ranks"]
    """Times through the network: several where there are more than `micro_batch_edges`."""
    largest_pass: Int[np.ndarray, "ranks 2"]
    """Atoms and edges of the pass with most edges, over all heads."""

    @property
    def load(self) -> Float[np.ndarray, " ranks"]:
        """Cost of each rank, in edges."""
        return self.costs.sum(0)

    @property
    def efficiency(self) -> float:
        """Mean over maximal cost: what part of the ranks' time is work, without communication."""
        return float(self.load.mean() / self.load.max())


def deal_step(workload: Workload, owners: Owners, *, n_ranks: int, step: int) -> Dealt:
    """Draw the global batch of a step and deal it to the owners of its heads."""
    places = {name: workload.places(name, step) for name in workload.heads}
    costs = {
        name: workload.heads[name].index.costs(drawn, workload.cost)
        for name, drawn in places.items()
    }
    ranks = pack(costs, owners, n_ranks, of_pass=workload.cost.of_pass)
    found = [
        _deal_head(workload, name, places[name], costs[name], ranks[name], n_ranks)
        for name in places
    ]
    sums = np.stack([sums for sums, _ in found], axis=1)
    largest = np.stack([passes for _, passes in found])
    widest = largest[:, :, 1].argmax(0)
    return Dealt(
        n_structures=sums[0].astype(np.int64),
        n_atoms=sums[1].astype(np.int64),
        n_edges=sums[2].astype(np.int64),
        costs=sums[3] + workload.cost.of_pass * sums[4],
        n_passes=sums[4].astype(np.int64),
        largest_pass=largest[widest, np.arange(n_ranks)],
    )


def deal_steps(workload: Workload, owners: Owners, *, n_ranks: int, n_steps: int) -> list[Dealt]:
    """The first steps of the run."""
    return [deal_step(workload, owners, n_ranks=n_ranks, step=step) for step in range(n_steps)]


def mean_load(steps: Sequence[Dealt]) -> Float[np.ndarray, "heads ranks"]:
    """Cost by head and rank over some steps, relative to the mean over ranks."""
    costs = np.mean([dealt.costs for dealt in steps], axis=0)
    return costs / costs.sum(0).mean()


def _deal_head(
    workload: Workload,
    name: str,
    places: Places,
    costs: Float[np.ndarray, " places"],
    rank_of: Int[np.ndarray, " places"],
    n_ranks: int,
) -> tuple[Float[np.ndarray, "5 ranks"], Int[np.ndarray, "ranks 2"]]:
    """Sums over each rank's structures of one head, and the size of its largest pass."""
    index = workload.heads[name].index
    n_atoms, n_edges = index.n_atoms(places), index.edges(places)

    def add(values: np.ndarray | None) -> np.ndarray:
        return np.bincount(rank_of, weights=values, minlength=n_ranks)

    sums = np.stack([add(None), add(n_atoms), add(n_edges), add(costs), np.zeros(n_ranks)])
    sums[4] = sums[0] > 0
    largest = sums[1:3].T.astype(np.int64)
    order = np.argsort(rank_of, kind="stable")
    ends = np.cumsum(sums[0].astype(np.int64))
    for rank in np.flatnonzero(sums[2] > workload.micro_batch_edges):
        mine = order[ends[rank] - int(sums[0, rank]) : ends[rank]]
        parts = split_by_size(n_edges[mine], workload.micro_batch_edges)
        sizes = np.array([[n_atoms[mine[p]].sum(), n_edges[mine[p]].sum()] for p in parts])
        sums[4, rank] = len(parts)
        largest[rank] = sizes[sizes[:, 1].argmax()]
    return sums, largest
