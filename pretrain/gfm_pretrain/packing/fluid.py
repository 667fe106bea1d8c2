"""The best that could be done if structures could be cut: what each head puts on each rank."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

FINENESS = 12
"""The level is found to one part in 2^12."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A head laid on neighbouring ranks: part of the first, some whole, part of the last."""

    first: int
    """First rank that takes of it."""
    on_first: int
    """Cost there, more than zero."""
    n_whole: int
    """Ranks after the first that take nothing else."""
    on_whole: int
    """Cost on each of these."""
    on_last: int
    """Cost on the rank after these; zero where there is none."""

    def add_to(self, loads: Int64[np.ndarray, " ranks"], *, of_pass: int, sign: int = 1) -> None:
        """Add costs, with a pass wherever there is any, to the loads of ranks, in place."""
        end = self.first + 1 + self.n_whole
        loads[self.first] += sign * (self.on_first + of_pass)
        loads[self.first + 1 : end] += sign * (self.on_whole + of_pass)
        if self.on_last:
            loads[end] += sign * (self.on_last + of_pass)


def lay_heads(
    totals: Sequence[int], spans: Sequence[tuple[int, int]], *, n_ranks: int, of_pass: int
) -> list[Interval]:
    """Lay heads end to end on ranks that are filled to the lowest level at which all find place.

    At a level, ranks are filled one after the other, each by the first head that is left; spans
    that never decrease let nothing be missed by it. The level is found by bisection.

    Args:
        totals: Cost of each head, all structures together, more than zero.
        spans: First and last rank that each head may use; neither ever decreases.
        n_ranks: Number of ranks.
        of_pass: What a head costs on every rank it uses besides.

    Source: McNaughton's rule, Management Science 6, 1 (1959), with spans.
    """
    low = sum(totals) // n_ranks
    high = low + of_pass + 1
    while (laid := _lay(totals, spans, high, of_pass)) is None:
        low, high = high, 2 * high
    while high - low > 1 + (high >> FINENESS):
        middle = (low + high) // 2
        found = _lay(totals, spans, middle, of_pass)
        low, high = (middle, high) if found is None else (low, middle)
        laid = found or laid
    return laid


def _lay(
    totals: Sequence[int], spans: Sequence[tuple[int, int]], level: int, of_pass: int
) -> list[Interval] | None:
    """Heads laid so that no rank has more than `level`, or None where that is too low."""
    whole = level - of_pass
    if whole < 1:
        return None
    rank, filled, laid = 0, 0, []
    for total, (first, last) in zip(totals, spans, strict=True):
        if rank < first:
            rank, filled = first, 0
        elif filled >= whole:
            rank, filled = rank + 1, 0
        on_first = min(total, whole - filled)
        n_whole, on_last = divmod(total - on_first, whole)
        laid.append(
            Interval(
                first=rank, on_first=on_first, n_whole=n_whole, on_whole=whole, on_last=on_last
            )
        )
        rank += n_whole + (on_last > 0)
        if n_whole or on_last:
            filled = on_last + of_pass if on_last else level
        else:
            filled += on_first + of_pass
        if rank > last:
            return None
    return laid
