"""The global batch of a step, dealt to the owners of its heads so that all have as much to do."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int64

from gfm_pretrain.packing.even_out import Dealt, even_out
from gfm_pretrain.packing.fluid import Interval, lay_heads
from gfm_pretrain.packing.longest_first import deal_longest_first

RESOLUTION = 64
"""Parts of an edge that costs are whole numbers of: sums of these are the same in any order."""

NEAR_BEST = 1.02
"""Largest load over a bound from below, the mean or the dearest structure, that is good enough."""


def pack(
    costs: Mapping[str, Float[np.ndarray, " structures"]],
    owners: Mapping[str, Sequence[int]],
    n_ranks: int,
    *,
    of_pass: float = 0.0,
) -> dict[str, Int64[np.ndarray, " structures"]]:
    """The rank that takes each structure: a pure function, the same on every rank.

    Ranks that own several heads belong to none of them. So first heads are laid on ranks as if
    structures could be cut, which says what room each head has to leave for others. Then
    structures are dealt head by head, the dearest first to the rank that has least, room left
    for others counted as taken; heads with dear structures come first, and those with cheap ones
    fill up. Where that is far from even it is tried without leaving room, too, which is better
    where every rank owns much; and what is more even is evened out by moves and swaps.

    Args:
        costs: Cost of each structure of the global batch, by head.
        owners: Ranks that own each head, neighbours.
        n_ranks: Number of ranks.
        of_pass: Cost of each head that a rank has structures of, besides.
    """
    names = sorted((n for n in costs if len(costs[n])), key=lambda n: _span(owners[n]))
    found = {name: np.zeros(0, dtype=np.int64) for name in costs}
    if not names:
        return found
    whole = [np.rint(costs[n] * RESOLUTION).astype(np.int64) for n in names]
    spans = [_span(owners[name]) for name in names]
    pass_cost = round(of_pass * RESOLUTION)
    totals = [max(1, int(of_head.sum())) for of_head in whole]
    laid = lay_heads(totals, spans, n_ranks=n_ranks, of_pass=pass_cost)
    best = _deal(whole, spans, laid, n_ranks=n_ranks, of_pass=pass_cost)
    dearest = max(int(of_head.max()) for of_head in whole) + pass_cost
    if best.loads.max() > NEAR_BEST * max(sum(totals) / n_ranks, dearest):
        other = _deal(whole, spans, None, n_ranks=n_ranks, of_pass=pass_cost)
        best = min(best, other, key=lambda dealt: int(dealt.loads.max()))
    even_out(best)
    ends = np.cumsum([len(of_head) for of_head in whole])
    return found | dict(zip(names, np.split(best.ranks, ends[:-1]), strict=True))


def _deal(
    costs: Sequence[Int64[np.ndarray, " structures"]],
    spans: Sequence[tuple[int, int]],
    laid: Sequence[Interval] | None,
    *,
    n_ranks: int,
    of_pass: int,
) -> Dealt:
    """Deal head by head, those with dear structures first."""
    loads = np.zeros(n_ranks, dtype=np.int64)
    for interval in laid or ():
        interval.add_to(loads, of_pass=of_pass)
    ranks: list[np.ndarray] = [np.zeros(0, dtype=np.int64)] * len(costs)
    for head in sorted(range(len(costs)), key=lambda h: (-int(costs[h].max()), h)):
        if laid is not None:
            laid[head].add_to(loads, of_pass=of_pass, sign=-1)
        first, last = spans[head]
        order = np.argsort(-costs[head], kind="stable")
        guess = loads[first : last + 1] + of_pass
        ranks[head] = np.empty(len(order), dtype=np.int64)
        ranks[head][order] = first + deal_longest_first(costs[head][order], guess)
        used = np.bincount(ranks[head] - first, minlength=last - first + 1) > 0
        loads[first : last + 1] = np.where(used, guess, guess - of_pass)
    return Dealt(
        costs=np.concatenate(costs),
        heads=np.repeat(np.arange(len(costs)), [len(of_head) for of_head in costs]),
        ranks=np.concatenate(ranks),
        loads=loads,
        first=np.array([first for first, _ in spans]),
        last=np.array([last for _, last in spans]),
        of_pass=of_pass,
    )


def _span(owners: Sequence[int]) -> tuple[int, int]:
    """First and last of neighbouring ranks."""
    assert list(owners) == list(range(owners[0], owners[-1] + 1)), f"no neighbours: {owners}"
    return owners[0], owners[-1]
