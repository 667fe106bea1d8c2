"""After dealing: structures of the fullest rank are moved or swapped as long as that helps."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

MOST_CHANGES = 32
"""Moves and swaps; the first few do most [measured]."""
MOST_PARTNERS = 16
"""Ranks that the fullest one may give to: those with least."""
EVEN_ENOUGH = 256
"""Stop where the fullest rank has less than 1/256 more than the mean."""
NOTHING = -1
"""What a move is swapped for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dealt:
    """Structures of all heads in one row, and who has them; changed in place."""

    costs: Int64[np.ndarray, " structures"]
    """Of each."""
    heads: Int64[np.ndarray, " structures"]
    """Number of the head of each."""
    ranks: Int64[np.ndarray, " structures"]
    """Who takes each."""
    loads: Int64[np.ndarray, " ranks"]
    """Of each rank, passes included."""
    first: Int64[np.ndarray, " heads"]
    """First rank that may take of each head."""
    last: Int64[np.ndarray, " heads"]
    """Last one; those between may, too."""
    of_pass: int
    """Cost of each head on a rank, however little it has of it."""

    def may_take(self, ranks: np.ndarray, heads: np.ndarray) -> np.ndarray:
        """Whether ranks own heads."""
        return (self.first[heads] <= ranks) & (ranks <= self.last[heads])


def even_out(dealt: Dealt) -> None:
    """Lower the largest load, one structure or pair at a time."""
    enough = dealt.loads.sum() // len(dealt.loads) * (EVEN_ENOUGH + 1) // EVEN_ENOUGH
    for _ in range(MOST_CHANGES):
        fullest = int(dealt.loads.argmax())
        if dealt.loads[fullest] <= enough or not _relieve(dealt, fullest):
            return


def _relieve(dealt: Dealt, full: int) -> bool:
    """Make the best move or swap with a partner; False where none lowers the larger load."""
    given = np.flatnonzero(dealt.ranks == full)
    partners = _partners(dealt, full, given)
    if not len(partners):
        return False
    slot = np.full(len(dealt.loads), NOTHING)
    slot[partners] = np.arange(len(partners))
    back = np.flatnonzero(slot[dealt.ranks] != NOTHING)
    back = back[dealt.may_take(np.array(full), dealt.heads[back])]
    back = np.concatenate([np.full(len(partners), NOTHING), back])
    slots = np.where(back == NOTHING, np.arange(len(back)), slot[dealt.ranks[back]])
    counts = np.zeros((len(dealt.first), len(partners)), dtype=np.int64)
    held = np.flatnonzero(slot[dealt.ranks] != NOTHING)
    np.add.at(counts, (dealt.heads[held], slot[dealt.ranks[held]]), 1)
    after_full, after_partner = _loads_after(dealt, full, given, partners, slots, back, counts)
    larger = np.maximum(after_full, after_partner)
    larger[~dealt.may_take(partners[slots][None], dealt.heads[given][:, None])] = 2**62
    i, j = np.unravel_index(larger.argmin(), larger.shape)
    if larger[i, j] >= dealt.loads[full]:
        return False
    partner = partners[slots[j]]
    dealt.ranks[given[i]] = partner
    if back[j] != NOTHING:
        dealt.ranks[back[j]] = full
    dealt.loads[full], dealt.loads[partner] = after_full[i, j], after_partner[i, j]
    return True


def _partners(
    dealt: Dealt, full: int, given: Int64[np.ndarray, " given"]
) -> Int64[np.ndarray, " partners"]:
    """The least loaded ranks among those that own some head of the fullest."""
    heads = np.unique(dealt.heads[given])
    nearby = np.arange(dealt.first[heads].min(), dealt.last[heads].max() + 1)
    nearby = nearby[dealt.may_take(nearby[:, None], heads[None]).any(1) & (nearby != full)]
    return nearby[np.argsort(dealt.loads[nearby], kind="stable")[:MOST_PARTNERS]]


def _loads_after(
    dealt: Dealt,
    full: int,
    given: Int64[np.ndarray, " given"],
    partners: Int64[np.ndarray, " partners"],
    slots: Int64[np.ndarray, " back"],
    back: Int64[np.ndarray, " back"],
    counts: Int64[np.ndarray, "heads partners"],
) -> tuple[Int64[np.ndarray, "given back"], Int64[np.ndarray, "given back"]]:
    """Loads of the fullest rank and of the partner for every pair of given and taken back."""
    of_full = np.bincount(dealt.heads[given], minlength=len(dealt.first))
    real = back != NOTHING
    head_given = dealt.heads[given][:, None]
    head_back = np.where(real, dealt.heads[back], NOTHING)[None]
    differ = head_given != head_back
    moved = dealt.costs[given][:, None] - np.where(real, dealt.costs[back], 0)[None]
    opens = counts[head_given, slots[None]] == 0
    closes = real & (counts[np.where(real, head_back, 0), slots[None]] == 1)
    opens_full = real & (of_full[np.where(real, head_back, 0)] == 0)
    closes_full = of_full[head_given] == 1
    passes = dealt.of_pass * differ
    after_partner = dealt.loads[partners][slots] + moved + passes * (opens * 1 - closes)
    after_full = dealt.loads[full] - moved + passes * (opens_full * 1 - closes_full)
    return after_full, after_partner
