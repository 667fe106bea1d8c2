"""What each rank computes in each step, and the batches for it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from gfm_models.graph import AtomicGraph
from gfm_models.loss import Labels
from jaxtyping import Float64, Int64

from gfm_pretrain.cost import RelativeCost
from gfm_pretrain.data.batch import build_batch
from gfm_pretrain.data.deal import first_deals
from gfm_pretrain.data.heads import Sets
from gfm_pretrain.data.sampler import dealt_places
from gfm_pretrain.data.structure_set import Index, Places
from gfm_pretrain.packing.pack import pack
from gfm_pretrain.packing.passes import count_passes, split_by_size


@dataclass(frozen=True, kw_only=True, eq=False)
class Pass:
    """Structures of one head that a rank takes through the network at once."""

    head: str
    """Name of the head."""
    places: Places
    """Of the structures in the head's training set."""
    last_of_head: bool
    """Whether this rank has no more of this head in this step."""
    last: bool
    """Whether this rank has nothing more in this step."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Size:
    """How much there is of a head in a step, over all ranks."""

    structures: int
    """Number of structures."""
    atoms: int
    """Of all of them."""
    edges: int
    """Directed, of all of them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StepWork:
    """One step: what all ranks take together, and what this rank takes of it."""

    step: int
    """From 0."""
    counts: Mapping[str, Int64[np.ndarray, "3"]]
    """Labelled energies, atoms with forces and stresses of the global batch, by head."""
    sizes: Mapping[str, Size]
    """By head."""
    costs: Float64[np.ndarray, " ranks"]
    """Cost of what each rank takes, in edges, passes included."""
    n_passes: int
    """Most passes of any rank."""
    passes: tuple[Pass, ...]
    """This rank's, in the order of heads."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """What goes through the network in one pass, on the device."""

    taken: Pass
    """Which structures they are."""
    graph: AtomicGraph
    """The structures side by side."""
    labels: Labels
    """NaN where there is none."""


class Feed:
    """The global batches of a run, dealt to ranks. A pure function of `deals` and the step.

    Args:
        indices: Of the training set of every head.
        cost: What structures are dealt by.
        owners: Ranks that own each head.
        data: Structures of the heads this rank owns.
        batch_sizes: Structures of each head in a step, on average.
        seed: Of the run.
        rank: This one.
        n_ranks: Number of ranks.
        micro_batch_edges: Most edges of a pass that has more than one structure.
        cutoff: Å.
        device: Where batches go.
    """

    def __init__(
        self,
        *,
        indices: Mapping[str, Index],
        cost: RelativeCost,
        owners: Mapping[str, tuple[int, ...]],
        data: Mapping[str, Sets],
        batch_sizes: Mapping[str, Fraction],
        seed: int,
        rank: int,
        n_ranks: int,
        micro_batch_edges: int,
        cutoff: float,
        device: torch.device,
    ) -> None:
        self.indices = indices
        self.cost = cost
        self.owners = owners
        self.data = data
        self.deals = first_deals(batch_sizes)
        self.seed = seed
        self.rank = rank
        self.n_ranks = n_ranks
        self.micro_batch_edges = micro_batch_edges
        self.cutoff = cutoff
        self.device = device

    def work(self, step: int) -> StepWork:
        """What is to be done in a step."""
        places = {name: self._places(name, step) for name in self.indices}
        n_atoms = {name: self.indices[name].n_atoms(drawn) for name, drawn in places.items()}
        n_edges = {name: self.indices[name].edges(drawn) for name, drawn in places.items()}
        costs = {name: self.cost.of(n_atoms[name], n_edges[name]) for name in places}
        ranks = pack(costs, self.owners, self.n_ranks, of_pass=self.cost.of_pass)
        n_passes = self._sum_by_rank(
            count_passes(n, ranks[name], n_ranks=self.n_ranks, limit=self.micro_batch_edges)
            for name, n in n_edges.items()
        )
        load = self._sum_by_rank(
            np.bincount(ranks[name], weights=of_head, minlength=self.n_ranks)
            for name, of_head in costs.items()
        )
        mine = {name: drawn[ranks[name] == self.rank] for name, drawn in places.items()}
        return StepWork(
            step=step,
            counts={name: self.indices[name].labelled(p).sum(0) for name, p in places.items()},
            sizes={name: _size(n_atoms[name], n_edges[name]) for name in places},
            costs=load + self.cost.of_pass * n_passes,
            n_passes=int(n_passes.max()),
            passes=self._passes({name: taken for name, taken in mine.items() if len(taken)}),
        )

    def batches(self, work: StepWork) -> Iterator[Batch]:
        """The batches of this rank's passes, in their order."""
        for taken in work.passes:
            columns = self.data[taken.head]["train"].read(taken.places)
            graph, labels = build_batch(columns, cutoff=self.cutoff, device=self.device)
            yield Batch(taken=taken, graph=graph, labels=labels)

    def _places(self, name: str, step: int) -> Places:
        deal = self.deals[name]
        return dealt_places(
            deal.numbers(step),
            seed=self.seed,
            key=deal.key,
            n_structures=len(self.indices[name]),
        )

    def _sum_by_rank(self, of_heads: Iterable[np.ndarray]) -> Float64[np.ndarray, " ranks"]:
        return np.sum([np.zeros(self.n_ranks), *of_heads], axis=0)

    def _passes(self, mine: Mapping[str, Places]) -> tuple[Pass, ...]:
        cut = [
            (name, places[part], part.stop == len(places))
            for name, places in mine.items()
            for part in split_by_size(self.indices[name].edges(places), self.micro_batch_edges)
        ]
        return tuple(
            Pass(head=name, places=places, last_of_head=last_of_head, last=n == len(cut))
            for n, (name, places, last_of_head) in enumerate(cut, start=1)
        )


def _size(n_atoms: Int64[np.ndarray, " places"], n_edges: Int64[np.ndarray, " places"]) -> Size:
    return Size(structures=len(n_atoms), atoms=int(n_atoms.sum()), edges=int(n_edges.sum()))
