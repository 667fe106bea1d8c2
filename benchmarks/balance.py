"""How even the work of ranks is, over real steps of real data at many levels of theory.

    python benchmarks/balance.py STORES [--steps N] [--ranks R] [--batch B …]
    python benchmarks/balance.py STORES --speed
    mpiexec -n 4 python benchmarks/balance.py STORES --train [--steps N] [--batch B]

STORES holds a folder for each set, as `benchmarks/real_data.py` makes them; each becomes a head.
Batches follow the sizes of the sets at temperature 2. Structures are drawn, placed and packed by
the engine's own functions, for as many ranks as one likes, since nothing is computed. What is told
is the efficiency of a step: mean over largest cost of the ranks, which is the time they would need
if nobody waited over the time the step takes.

With `--train` the ranks that were started train, and the processor time that each takes for its
passes is held against their cost, as measured before the first step.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from gfm_models.backbone import BackboneConfig
from gfm_pretrain.config import RunConfig
from gfm_pretrain.cost import RelativeCost
from gfm_pretrain.data.deal import Deal, first_deals
from gfm_pretrain.data.mixture import batch_sizes
from gfm_pretrain.data.sampler import dealt_places
from gfm_pretrain.data.store.store import open_store
from gfm_pretrain.data.structure_set import Index
from gfm_pretrain.failure import run_main
from gfm_pretrain.head_options import HeadOptions
from gfm_pretrain.mixture_options import MixtureOptions
from gfm_pretrain.mixture_placement import place_mixture
from gfm_pretrain.packing.pack import pack
from gfm_pretrain.process import World, gather_objects
from gfm_pretrain.report import cost_line
from gfm_pretrain.setup import set_up
from gfm_pretrain.table import text_table
from gfm_pretrain.trainer import Trainer
from gfm_pretrain.training_options import TrainingOptions
from machine import describe_machine

CUTOFF = 5.0
"""Å"""
COST = RelativeCost(of_atom=4.0, of_pass=512.0)
"""As the engine measures it on a CPU, within a factor of two."""
Costs = Mapping[str, np.ndarray]
Owners = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One global batch."""

    atoms: Costs
    """Of each structure, by head."""
    costs: Costs
    """Of each structure, passes aside, by head."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stores", type=Path, metavar="STORES")
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="of each row (50)")
    parser.add_argument("--ranks", type=int, default=64, metavar="R", help="ranks (64)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1024, 2048, 4096], metavar="B")
    parser.add_argument("--speed", action="store_true", help="time packing in large worlds")
    parser.add_argument("--train", action="store_true", help="train on the ranks there are")
    arguments = parser.parse_args()
    if arguments.train:
        config = run_config(arguments.stores, arguments.batch[0], arguments.steps)
        run_main(lambda world: train(config, world), program="balance", device="cpu")
        return
    print(describe_machine(), end="\n\n")
    indices = read_indices(arguments.stores)
    if arguments.speed:
        print_speed(indices)
        return
    for batch in arguments.batch:
        print_balance(indices, batch, n_ranks=arguments.ranks, n_steps=arguments.steps)


def read_indices(stores: Path) -> dict[str, Index]:
    """Sizes of the training structures of every set."""
    folders = sorted(path for path in stores.iterdir() if (path / "manifest.json").is_file())
    return {
        path.name: open_store(path, verify=False).splits["train"].index(CUTOFF) for path in folders
    }


def mixture(indices: Mapping[str, Index], batch: int) -> dict[str, Fraction]:
    """Structures of each head in a step."""
    heads = {name: HeadOptions(store=name) for name in indices}
    options = MixtureOptions(by="temperature", temperature=2.0, batch_size=batch)
    return batch_sizes(options, heads, {name: len(index) for name, index in indices.items()})


def draw(indices: Mapping[str, Index], deals: Mapping[str, Deal], step: int) -> Step:
    """The structures of a step, as the engine draws them."""
    atoms, costs = {}, {}
    for name, index in indices.items():
        numbers = deals[name].numbers(step)
        places = dealt_places(numbers, seed=0, key=name, n_structures=len(index))
        atoms[name], costs[name] = index.n_atoms(places), index.costs(places, COST)
    return Step(atoms=atoms, costs=costs)


def print_balance(indices: Mapping[str, Index], batch: int, *, n_ranks: int, n_steps: int) -> None:
    """Efficiency of every way to place and to pack."""
    sizes = mixture(indices, batch)
    deals = first_deals(sizes)
    together = {name: Deal(key=name, batch_size=size) for name, size in sizes.items()}
    steps = [draw(indices, deals, step) for step in range(n_steps)]
    out_of_turn = [draw(indices, together, step) for step in range(n_steps)]
    rows = []
    for title, method, spill, way, drawn in WAYS:
        owners = place(indices, sizes, n_ranks=n_ranks, method=method, spill=spill)
        used = out_of_turn if drawn == "together" else steps
        loads = np.array([loads_of(step, way(step, owners, n_ranks), n_ranks) for step in used])
        rows.append((title, *summary(loads, owners, n_ranks)))
    dearest = [max(float(c.max()) for c in step.costs.values() if len(c)) for step in steps]
    mean = [sum(float(c.sum()) for c in step.costs.values()) / n_ranks for step in steps]
    limit = np.mean([m / max(m, d) for m, d in zip(mean, dearest, strict=True)])
    header = (
        "placement and packing",
        "heads per rank",
        "efficiency",
        "worst step",
        "by mean loads",
    )
    print(f"{n_ranks} ranks, {batch} structures a step, {n_steps} steps")
    print(text_table(header, rows))
    print(f"\nno packing can be better than {limit:.3f}: structures cannot be cut\n")


def place(
    indices: Mapping[str, Index],
    sizes: Mapping[str, Fraction],
    *,
    n_ranks: int,
    method: str,
    spill: float,
) -> Owners:
    """Owners as the engine chooses them."""
    return place_mixture(
        {name: index.statistics for name, index in indices.items()},
        sizes,
        cost=COST,
        n_ranks=n_ranks,
        method=method,
        spill=spill,
    )


def summary(loads: np.ndarray, owners: Owners, n_ranks: int) -> tuple[str, ...]:
    """Cells of a row; loads by step and rank."""
    efficiency = loads.mean(1) / loads.max(1)
    by_mean = loads.mean() / loads.mean(0).max()
    owned = sum(map(len, owners.values())) / n_ranks
    return (
        f"{owned:.2f}",
        f"{efficiency.mean():.3f}",
        f"{efficiency.min():.3f}",
        f"{by_mean:.3f}",
    )


def loads_of(step: Step, ranks: Mapping[str, np.ndarray], n_ranks: int) -> np.ndarray:
    """What each rank has to do, a pass for each head that it has structures of."""
    loads = np.zeros(n_ranks)
    for name, costs in step.costs.items():
        np.add.at(loads, ranks[name], costs)
        loads[np.unique(ranks[name])] += COST.of_pass
    return loads


def packed(step: Step, owners: Owners, n_ranks: int) -> dict[str, np.ndarray]:
    """As the engine does it."""
    return pack(step.costs, owners, n_ranks, of_pass=COST.of_pass)


def in_turn(step: Step, owners: Owners, _: int) -> dict[str, np.ndarray]:
    """As many structures for each owner of a head."""
    return {
        name: np.resize(np.array(owners[name]), len(costs)) for name, costs in step.costs.items()
    }


def dearest_first(sizes: Callable[[Step], Costs]) -> Callable[..., dict[str, np.ndarray]]:
    """The largest structure first, to the owner that has least; no room is left for others."""

    def deal(step: Step, owners: Owners, n_ranks: int) -> dict[str, np.ndarray]:
        loads = np.zeros(n_ranks)
        of_step = sizes(step)
        ranks = {name: np.zeros(len(of_head), dtype=int) for name, of_head in of_step.items()}
        todo = sorted((-s, name, i) for name, found in of_step.items() for i, s in enumerate(found))
        for negative, name, i in todo:
            first, last = owners[name][0], owners[name][-1]
            rank = first + int(loads[first : last + 1].argmin())
            loads[rank] -= negative
            ranks[name][i] = rank
        return ranks

    return deal


BY_ATOMS = dearest_first(lambda step: step.atoms)
BY_COST = dearest_first(lambda step: step.costs)
WAYS = (
    ("wrap-around, spill 2: packed", "wrap-around", 2.0, packed, "in turn"),
    ("wrap-around, spill 1: packed", "wrap-around", 1.0, packed, "in turn"),
    ("wrap-around, spill 0: packed", "wrap-around", 0.0, packed, "in turn"),
    ("… odd structures in the same steps", "wrap-around", 2.0, packed, "together"),
    ("wrap-around, spill 0: dearest first", "wrap-around", 0.0, BY_COST, "in turn"),
    ("wrap-around, spill 0: most atoms first", "wrap-around", 0.0, BY_ATOMS, "in turn"),
    ("wrap-around, spill 0: same number", "wrap-around", 0.0, in_turn, "in turn"),
    ("whole ranks: packed", "whole-ranks", 0.0, packed, "in turn"),
    ("whole ranks: most atoms first", "whole-ranks", 0.0, BY_ATOMS, "in turn"),
    ("whole ranks: same number", "whole-ranks", 0.0, in_turn, "in turn"),
    ("everywhere: packed", "everywhere", 0.0, packed, "in turn"),
)
"""Title, placement, how far heads spill over, packing, and when odd structures come."""


def print_speed(indices: Mapping[str, Index]) -> None:
    """Milliseconds of drawing and packing a step."""
    rows = []
    for batch, n_ranks in ((1024, 64), (6400, 1280), (640_000, 40_000)):
        sizes = mixture(indices, batch)
        deals = first_deals(sizes)
        owners = place(indices, sizes, n_ranks=n_ranks, method="wrap-around", spill=2.0)
        drawing, packing = [], []
        for step in range(5):
            start = time.process_time()
            drawn = draw(indices, deals, step)
            middle = time.process_time()
            packed(drawn, owners, n_ranks)
            drawing.append(middle - start)
            packing.append(time.process_time() - middle)
        rows.append((n_ranks, batch, f"{1e3 * min(drawing):.1f}", f"{1e3 * min(packing):.1f}"))
    print(text_table(("ranks", "structures", "draw, ms", "pack, ms"), rows))


def run_config(stores: Path, batch: int, steps: int) -> RunConfig:
    """A run of all sets."""
    heads = {
        path.name: HeadOptions(store=str(path), labels=("energy",))
        for path in sorted(stores.iterdir())
        if (path / "manifest.json").is_file()
    }
    return RunConfig(
        run="not-written",
        heads=heads,
        model=BackboneConfig(channels=32, cutoff=CUTOFF),
        mixture=MixtureOptions(by="temperature", temperature=2.0, batch_size=batch),
        training=TrainingOptions(steps=steps),
    )


def train(config: RunConfig, world: World) -> None:
    """Hold each rank's processor time against its cost; rank 0 tells. Call on every rank."""
    torch.set_num_threads(1)
    setup = set_up(config, world)
    trainer = Trainer(config, setup, world)
    seconds, costs = [], []
    for step in range(setup.total_steps + 1):
        work = trainer.feed.work(step)
        start = time.process_time()
        trainer.compute_gradients(work)
        seconds.append(time.process_time() - start)
        costs.append(work.costs)
    times = np.array(gather_objects(world, seconds[1:])).T  # the first step does not count
    if world.rank == 0:
        print(f"{describe_machine()}; {world.size} ranks, {len(times)} steps\n{cost_line(setup)}\n")
        print_agreement(np.array(costs[1:]), times)


def print_agreement(costs: np.ndarray, times: np.ndarray) -> None:
    """Efficiency by cost and by time; how well one follows from the other."""
    per_cost = times.sum() / costs.sum()
    off = np.abs(times / (per_cost * costs) - 1)
    rows = [
        (name, f"{(of.mean(1) / of.max(1)).mean():.3f}", f"{of.mean() / of.mean(0).max():.3f}")
        for name, of in (("cost", costs), ("processor time", times))
    ]
    print(text_table(("by", "efficiency", "of mean loads"), rows))
    print(
        f"\n{1e6 * per_cost:.1f} µs for each edge of cost; a rank's step differs from that by "
        f"{100 * np.median(off):.0f} % (median), {100 * off.max():.0f} % at most"
    )


if __name__ == "__main__":
    main()
