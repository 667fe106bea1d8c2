"""How even steps of the samples in data/ are on 16 simulated ranks, as the engine deals them."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from gfm_pretrain.cost import RelativeCost
from gfm_pretrain.data.deal import first_deals
from gfm_pretrain.data.heads import read_head
from gfm_pretrain.data.mixture import batch_sizes
from gfm_pretrain.data.sampler import dealt_places
from gfm_pretrain.data.structure_set import Index
from gfm_pretrain.head_options import HeadOptions
from gfm_pretrain.mixture_options import MixtureOptions
from gfm_pretrain.mixture_placement import place_mixture
from gfm_pretrain.packing.pack import pack
from packing_cases import loads_of, plain

DATA = Path(__file__).parents[3] / "data"
COST = RelativeCost(of_atom=4.0, of_pass=512.0)
N_RANKS, N_STEPS, CUTOFF = 16, 20, 4.0


@pytest.fixture(scope="module")
def indices() -> dict[str, Index]:
    """Of the validation files, a tenth of the data, whose edges are soon counted."""
    found = {}
    for path in sorted(DATA.glob("*/valid.extxyz.gz")):
        options = HeadOptions(train=str(path), level_of_theory="of it", labels=("energy",))
        summary, _ = read_head(path.parent.name, options, cutoff=CUTOFF)
        found[path.parent.name] = summary.indices["train"]
    assert len(found) >= 6
    return found


def efficiencies(indices: dict[str, Index], *, method: str, spill: float, dealt=None) -> np.ndarray:
    heads = {name: HeadOptions(store=name) for name in indices}
    mixture = MixtureOptions(by="temperature", temperature=2.0, batch_size=32 * N_RANKS)
    sizes = batch_sizes(mixture, heads, {name: len(index) for name, index in indices.items()})
    owners = place_mixture(
        {name: index.statistics for name, index in indices.items()},
        sizes,
        cost=COST,
        n_ranks=N_RANKS,
        method=method,
        spill=spill,
    )
    return np.array([efficiency(indices, sizes, owners, step, dealt) for step in range(N_STEPS)])


def efficiency(
    indices: dict[str, Index], sizes: dict[str, Fraction], owners, step: int, dealt
) -> float:
    costs = {}
    for name, deal in first_deals(sizes).items():
        numbers, size = deal.numbers(step), len(indices[name])
        places = dealt_places(numbers, seed=0, key=name, n_structures=size)
        costs[name] = indices[name].costs(places, COST)
    if dealt is None:
        ranks = pack(costs, owners, N_RANKS, of_pass=COST.of_pass)
    else:
        ranks = dealt(costs, owners, N_RANKS)
    loads = loads_of(costs, ranks, N_RANKS, COST.of_pass)
    return loads.mean() / loads.max()


def test_steps_are_even(indices):
    found = efficiencies(indices, method="wrap-around", spill=2.0)
    assert found.mean() > 0.98
    assert found.min() > 0.95


def test_spilling_over_and_leaving_room_are_what_does_it(indices):
    ours = efficiencies(indices, method="wrap-around", spill=2.0).mean()
    assert ours > efficiencies(indices, method="wrap-around", spill=0.0).mean()
    assert ours > efficiencies(indices, method="wrap-around", spill=2.0, dealt=plain).mean() + 0.1
    assert ours > efficiencies(indices, method="whole-ranks", spill=0.0).mean()
