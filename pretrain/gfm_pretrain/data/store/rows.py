"""What is known of every structure of an import, and what is decided about it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8, UInt64

from gfm_pretrain.data.audit.checks import Finding, Policy
from gfm_pretrain.data.audit.report import Audit
from gfm_pretrain.data.shard import Shard
from gfm_pretrain.data.store.parts import PartShard, shards_of
from gfm_pretrain.data.store.selection import Selection
from gfm_pretrain.data.store.splits import (
    LEFT_OUT,
    NONE,
    TRAIN,
    Fractions,
    assign_splits,
    find_leaks,
    is_among,
)

PRECEDENCE = np.array([2, 1, 0, 3])
"""Of copies of one geometry, which is kept: that of the test set, then valid, train, none."""

Chosen = Bool[np.ndarray, " structures"]
Splits = UInt8[np.ndarray, " structures"]


@dataclass(kw_only=True, eq=False)
class Rows:
    """One row for each structure of the parts, in their order."""

    shards: Sequence[PartShard]
    """Where the structures lie."""
    group: UInt64[np.ndarray, " structures"]
    """Hash of the group."""
    published: Splits
    """The split as published."""
    alone: Chosen
    """Whether it is a single atom."""
    kept: Chosen
    """Whether it will be in the store."""

    @property
    def published_of_kept(self) -> Splits:
        """The split as published, LEFT_OUT of those that will not be in the store."""
        return np.where(self.kept, self.published, np.uint8(LEFT_OUT))

    def selection(self, which: Chosen) -> Selection:
        """The structures that are kept among those that are meant."""
        return Selection(shards=self.shards, kept=self.kept & which)

    def mapped(self) -> Iterator[tuple[slice, Shard]]:
        """The shards one by one, each mapped while it is used only, and their rows."""
        start = 0
        for part in self.shards:
            stop = start + part.facts.n_structures
            yield slice(start, stop), part.map()
            start = stop


def gather_rows(parts: Sequence[Path]) -> Rows:
    """Read what decides about the structures of all parts.

    Raises:
        StoreError: a part is damaged.
    """
    shards = [shard for part in parts for shard in shards_of(part)]
    groups, alone = [], []
    for shard in shards:
        mapped = shard.map()
        groups.append(np.array(mapped.group))
        alone.append(mapped.n_atoms == 1)
    return Rows(
        shards=shards,
        group=np.concatenate(groups),
        published=np.concatenate([shard.splits() for shard in shards]),
        alone=np.concatenate(alone),
        kept=np.ones(sum(shard.facts.n_structures for shard in shards), dtype=np.bool_),
    )


def note(
    rows: Rows, which: Chosen, kind: str, reason: str, *, policy: Policy, audit: Audit
) -> None:
    """Put findings into the audit, and leave the structures out if they are to be."""
    which = which & rows.kept
    action = policy.action(kind)
    for here, shard in rows.mapped() if which.any() else ():
        for row in np.flatnonzero(which[here]):
            audit.note(Finding(kind, shard.identifier(int(row)), reason), action=action)
    if action == "refuse":
        rows.kept &= ~which


def note_duplicates(rows: Rows, *, policy: Policy, audit: Audit) -> None:
    """Find structures whose geometry occurs before."""
    fingerprints = np.concatenate([shard.fingerprints() for shard in rows.shards])
    ordered = np.sort(fingerprints)
    several = np.flatnonzero(is_among(fingerprints, ordered[1:][ordered[1:] == ordered[:-1]]))
    precedence = PRECEDENCE[rows.published[several]]
    several = several[np.lexsort((precedence, fingerprints[several]))]
    again = np.zeros(len(fingerprints), dtype=np.bool_)
    again[several[1:]] = fingerprints[several[1:]] == fingerprints[several[:-1]]
    reason = "the same geometry as another structure"
    note(rows, again, "duplicate", reason, policy=policy, audit=audit)


def note_leaks(rows: Rows, *, policy: Policy, audit: Audit) -> None:
    """Find structures whose group is also in a split that must not have seen it."""
    leaks = find_leaks(rows.published_of_kept, rows.group)
    reason = "its group is also in the published validation or test set"
    note(rows, leaks, "split_leak", reason, policy=policy, audit=audit)


def divide(rows: Rows, fractions: Fractions, *, policy: Policy, audit: Audit) -> Splits:
    """A split for every structure that is kept.

    Single atoms train, because reference energies are taken from them. A head that never saw an
    element cannot be judged on it either: of each element that would not be trained on, the first
    group that has it trains. Where such a structure is published for validation or test it is left
    out.

    Raises:
        ValueError: there are too few groups to divide, or none is for training.
    """
    must_train = rows.alone.copy()
    while True:
        splits = assign_splits(
            rows.published_of_kept,
            rows.group,
            fractions=fractions,
            must_train=must_train & rows.kept,
        )
        if not (splits == TRAIN).any():
            raise ValueError("all structures are for validation or test; add those for training")
        unseen, first = _find_unseen_elements(rows, splits)
        if not unseen.any():
            return splits
        must_train[first] = True
        if not len(first):
            reason = "no training structure has one of its elements"
            note(rows, unseen, "unseen_element", reason, policy=policy, audit=audit)


def describe_splits(rows: Rows, fractions: Fractions) -> str:
    """Where the splits of the structures that are kept come from, in words."""
    free = rows.published[rows.kept] == NONE
    n_groups = len(np.unique(rows.group[rows.kept][free]))
    chosen = (
        f"whole groups out of {n_groups} in the order of a hash (seed {fractions.seed}): "
        f"{fractions.valid:g} of the structures for validation, {fractions.test:g} for test"
    )
    if not free.any():
        return "as published"
    return chosen if free.all() else f"as published; structures without one, {chosen}"


def _find_unseen_elements(rows: Rows, splits: Splits) -> tuple[Chosen, list[int]]:
    """Structures with elements that no training structure has.

    Returns:
        All of them, and for each such element the first that may be moved to the training set.
    """
    seen = _elements_of(rows, splits == TRAIN)
    unseen = np.zeros(len(splits), dtype=np.bool_)
    first: dict[int, int] = {}
    for here, shard in rows.mapped():
        judged = np.repeat(rows.kept[here] & (splits[here] != TRAIN), shard.n_atoms)
        numbers = shard.atomic_numbers[shard.atoms]
        strange = np.flatnonzero(judged & ~seen[numbers])
        owners = np.repeat(np.arange(here.start, here.stop), shard.n_atoms)[strange]
        unseen[owners] = True
        movable = rows.published[owners] == NONE
        elements, places = np.unique(numbers[strange][movable], return_index=True)
        found = owners[movable][places]
        first = {**dict(zip(elements.tolist(), found.tolist(), strict=True)), **first}
    return unseen, sorted(set(first.values()))


def _elements_of(rows: Rows, which: Chosen) -> Bool[np.ndarray, "256"]:
    found = np.zeros(256, dtype=np.bool_)
    for here, shard in rows.mapped():
        meant = np.repeat(rows.kept[here] & which[here], shard.n_atoms)
        found[shard.atomic_numbers[shard.atoms][meant]] = True
    return found
