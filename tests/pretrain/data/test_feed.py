"""What ranks are given to do, put together from all of them."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from gfm_pretrain.cost import RelativeCost
from gfm_pretrain.data.deal import first_deals
from gfm_pretrain.data.feed import Feed
from gfm_pretrain.data.sampler import dealt_places
from gfm_pretrain.data.structure_set import in_memory
from gfm_pretrain.placement import place_heads
from hydrogen import CUTOFF, STRUCTURES

COST = RelativeCost(of_atom=4.0, of_pass=7.0)
SETS = {
    "a": in_memory(STRUCTURES * 4, cutoff=CUTOFF),
    "b": in_memory(STRUCTURES[:3] * 2, cutoff=CUTOFF),
    "c": in_memory(STRUCTURES[3:], cutoff=CUTOFF),
}
BATCHES = {"a": Fraction(17, 2), "b": Fraction(13, 4), "c": Fraction(1, 3)}
LIMIT = 12


def feed(rank: int, n_ranks: int) -> Feed:
    owners = place_heads([60.0, 20.0, 3.0], n_ranks, spreads=[6.0, 2.0, 1.0])
    return Feed(
        indices={name: of_head.index(CUTOFF) for name, of_head in SETS.items()},
        cost=COST,
        owners=dict(zip(SETS, owners, strict=True)),
        data={name: {"train": of_head} for name, of_head in SETS.items()},
        batch_sizes=BATCHES,
        seed=3,
        rank=rank,
        n_ranks=n_ranks,
        micro_batch_edges=LIMIT,
        cutoff=CUTOFF,
        device=torch.device("cpu"),
    )


def drawn(name: str, step: int) -> list[int]:
    numbers = first_deals(BATCHES)[name].numbers(step)
    places = dealt_places(numbers, seed=3, key=name, n_structures=len(SETS[name]))
    return sorted(places.tolist())


@pytest.mark.parametrize("n_ranks", [1, 2, 5])
@pytest.mark.parametrize("step", [0, 1, 2, 30])
def test_all_ranks_together_take_the_batch(n_ranks, step):
    of_ranks = [feed(rank, n_ranks).work(step) for rank in range(n_ranks)]
    for name, of_head in SETS.items():
        taken = [p for work in of_ranks for p in work.passes if p.head == name]
        places = np.concatenate([np.zeros(0, dtype=int), *(p.places for p in taken)])
        assert sorted(places.tolist()) == drawn(name, step)
        index, size = of_head.index(CUTOFF), of_ranks[0].sizes[name]
        assert size.structures == len(places)
        assert size.atoms == index.n_atoms(places).sum()
        assert size.edges == index.edges(places).sum()
        assert of_ranks[0].counts[name].tolist() == index.labelled(places).sum(0).tolist()


@pytest.mark.parametrize("n_ranks", [1, 2, 5])
@pytest.mark.parametrize("step", [0, 1, 2, 30])
def test_every_rank_knows_what_the_others_do(n_ranks, step):
    of_ranks = [feed(rank, n_ranks).work(step) for rank in range(n_ranks)]
    costs = [
        sum(
            SETS[p.head].index(CUTOFF).costs(p.places, COST).sum() + COST.of_pass
            for p in work.passes
        )
        for work in of_ranks
    ]
    for work in of_ranks:
        assert work.costs.tolist() == costs
        assert work.n_passes == max(len(work.passes) for work in of_ranks)


def test_passes_say_what_they_are_the_last_of():
    passes = feed(0, 2).work(0).passes
    assert [p.last for p in passes] == [False] * (len(passes) - 1) + [True]
    heads = [p.head for p in passes]
    assert heads == sorted(heads)
    assert [p.last_of_head for p in passes] == [
        after != head for head, after in zip(heads, [*heads[1:], ""], strict=True)
    ]
    assert len(passes) > len(set(heads))


def test_batches_are_those_of_the_passes():
    own = feed(1, 2)
    work = own.work(4)
    for taken, batch in zip(work.passes, own.batches(work), strict=True):
        assert batch.taken is taken
        index = SETS[taken.head].index(CUTOFF)
        assert batch.graph.n_nodes == index.n_atoms(taken.places).sum()
        assert batch.graph.n_edges == index.edges(taken.places).sum()
        assert batch.labels.energy.shape == taken.places.shape
