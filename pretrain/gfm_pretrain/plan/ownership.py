"""Who owns what, in tables: a row for each head, and one for each run of ranks that are alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from gfm_pretrain.plan.dealing import Dealt, mean_load
from gfm_pretrain.plan.memory import parameters_held, state_bytes
from gfm_pretrain.plan.workload import Owners, Workload
from gfm_pretrain.table import text_table

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class RankRange:
    """Neighbouring ranks that own the same heads."""

    first: int
    """Its first rank."""
    last: int
    """Its last rank."""
    heads: tuple[str, ...]
    """What they own."""

    @property
    def ranks(self) -> slice:
        """For arrays of all ranks."""
        return slice(self.first, self.last + 1)


def rank_ranges(owners: Owners, n_ranks: int) -> list[RankRange]:
    """Runs of neighbouring ranks with the same heads, in the order of ranks."""
    heads: list[tuple[str, ...]] = [()] * n_ranks
    for name, ranks in owners.items():
        for rank in ranks:
            heads[rank] += (name,)
    runs = (list(run) for _, run in groupby(range(n_ranks), key=heads.__getitem__))
    return [RankRange(first=run[0], last=run[-1], heads=heads[run[0]]) for run in runs]


def summary(
    workload: Workload, owners: Owners, steps: Sequence[Dealt], *, method: str, n_shards: int = 1
) -> str:
    """Both tables, and how even the loads are.

    Args:
        workload: The run.
        owners: Of its heads.
        steps: Dealt to the owners, at least one.
        method: Of placement.
        n_shards: Ranks that hold one backbone together.
    """
    n_ranks = steps[0].load.size
    even = np.array([dealt.efficiency for dealt in steps])
    where = f"in {n_shards} pieces" if n_shards > 1 else "on every rank"
    return (
        f"{n_ranks} ranks, placement {method}, {float(workload.batch_size):.6g} structures per "
        f"step; backbone {workload.backbone.n_parameters:,} parameters {where}\n\n"
        f"{head_table(workload, owners, steps)}\n\n"
        f"{rank_table(workload, owners, steps, n_shards=n_shards)}\n\n"
        f"balance of {len(steps)} steps, drawn and dealt as in training (mean over maximal cost): "
        f"{even.mean():.3f}, from {even.min():.3f} to {even.max():.3f}"
    )


def head_table(workload: Workload, owners: Owners, steps: Sequence[Dealt]) -> str:
    """For each head: its data, its part of the cost, its owners and what each of them gets."""
    costs = workload.step_costs()
    dealt = np.mean([step.n_structures for step in steps], axis=0)
    rows = []
    for row, (name, head) in enumerate(workload.heads.items()):
        ranks = owners[name]
        per_rank = dealt[row, list(ranks)]
        rows.append(
            (
                name,
                f"{len(head.index):,}",
                f"{float(head.batch_size):.6g}",
                f"{head.index.statistics.mean_cost(workload.cost):,.0f}",
                f"{100 * costs[name] / sum(costs.values()):.2f}",
                _span(ranks[0], ranks[-1]),
                len(ranks),
                _between(per_rank, ".1f"),
                f"{head.size.n_parameters:,}",
            )
        )
    header = ("head", "structures", "per step", "cost each", "cost %", "ranks", "number")
    return text_table((*header, "structures per rank", "parameters"), rows)


def rank_table(
    workload: Workload, owners: Owners, steps: Sequence[Dealt], *, n_shards: int = 1
) -> str:
    """For each run of ranks: heads, load relative to the mean, parameters and memory of state."""
    n_ranks = steps[0].load.size
    load = mean_load(steps).sum(0)
    parameters = parameters_held(workload, owners, n_ranks=n_ranks, n_shards=n_shards)
    memory = state_bytes(workload, owners, n_ranks=n_ranks, n_shards=n_shards) / MIB
    rows = [
        (
            _span(run.first, run.last),
            ", ".join(run.heads),
            _between(load[run.ranks], ".2f"),
            f"{parameters[run.first]:,}",
            f"{memory[run.first]:,.2f}",
        )
        for run in rank_ranges(owners, n_ranks)
    ]
    return text_table(("ranks", "heads", "load × mean", "parameters", "state MiB"), rows)


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}–{last}"


def _between(values: np.ndarray, form: str) -> str:
    low, high = format(values.min(), form), format(values.max(), form)
    return low if low == high else f"{low}–{high}"
