"""Which structures train, validate and test: as published, else by group, never by frame."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, UInt8, UInt64

from gfm_pretrain.data.scatter import scatter

TRAIN, VALID, TEST, NONE, LEFT_OUT = range(5)
"""Numbers of the splits; NONE: no split is published; LEFT_OUT: not in the store."""
RUN = 1 << 20
"""Structures that are looked at together: there may be many millions."""


@dataclass(frozen=True, kw_only=True)
class Fractions:
    """How much is set aside where no split is published."""

    valid: float = 0.05
    """Part of the structures for validation."""
    test: float = 0.05
    """Part of the structures for testing."""
    seed: int = 0
    """Another one makes another choice."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: naming the option.
        """
        for name in ("valid", "test"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}_fraction must lie in 0 to 1, got {getattr(self, name)}")
        if self.valid + self.test >= 1:
            raise ValueError(
                f"valid_fraction and test_fraction must leave something to train on, got "
                f"{self.valid} and {self.test}"
            )


def hash_of(text: str) -> int:
    """64 bits that stand for a text, the same in every process and every run."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def find_leaks(
    published: UInt8[np.ndarray, " structures"], groups: UInt64[np.ndarray, " structures"]
) -> Bool[np.ndarray, " structures"]:
    """Structures whose group is also in a split that must not have seen it.

    Training structures of a group that is validated or tested on, and validation structures of a
    group that is tested on: leaving them out keeps the published test set whole.
    """
    in_test = is_among(groups, groups[published == TEST])
    in_valid = is_among(groups, groups[published == VALID])
    train, valid = published == TRAIN, published == VALID
    return (train & (in_valid | in_test)) | (valid & in_test)


def assign_splits(
    published: UInt8[np.ndarray, " structures"],
    groups: UInt64[np.ndarray, " structures"],
    *,
    fractions: Fractions,
    must_train: Bool[np.ndarray, " structures"],
) -> UInt8[np.ndarray, " structures"]:
    """A split for every structure; whole groups, chosen at random but always the same way.

    Groups come in an order that a hash of their name and the seed gives, and fill the validation
    set, then the test set, then the rest trains. So the choice depends neither on the order of the
    data nor on the number of processes.

    Args:
        published: TRAIN, VALID, TEST, NONE or LEFT_OUT.
        groups: Hash of each structure's group.
        fractions: Of the structures without a published split, for validation and test.
        must_train: Structures that have to be in the training set, with their groups.

    Raises:
        ValueError: there are too few groups.
    """
    splits, free = published.copy(), published == NONE
    if not free.any():
        return splits
    names, sizes = _count(groups[free])
    kept = is_among(names, groups[must_train])
    found = _split_of_groups(names, sizes, kept=kept, fractions=fractions)
    for here in _runs(len(groups)):
        splits[here][free[here]] = found[np.searchsorted(names, groups[here][free[here]])]
    return splits


def is_among(
    values: UInt64[np.ndarray, " values"], chosen: UInt64[np.ndarray, " chosen"]
) -> Bool[np.ndarray, " values"]:
    """Whether each of many values is one of the chosen, with little memory."""
    found = np.zeros(len(values), dtype=np.bool_)
    names, _ = _count(chosen.copy())
    for here in _runs(len(values) if len(names) else 0):
        places = np.minimum(np.searchsorted(names, values[here]), len(names) - 1)
        found[here] = names[places] == values[here]
    return found


def _count(
    values: UInt64[np.ndarray, " values"],
) -> tuple[UInt64[np.ndarray, " names"], Int[np.ndarray, " names"]]:
    """The distinct values, ascending, and how often each occurs; sorts `values` in place."""
    values.sort()
    is_first = np.ones(len(values), dtype=np.bool_)
    is_first[1:] = values[1:] != values[:-1]
    first = np.flatnonzero(is_first)
    return values[first], np.diff(np.append(first, len(values)))


def _runs(length: int) -> Iterator[slice]:
    return (slice(start, start + RUN) for start in range(0, length, RUN))


def _split_of_groups(
    names: UInt64[np.ndarray, " groups"],
    sizes: Int[np.ndarray, " groups"],
    *,
    kept: Bool[np.ndarray, " groups"],
    fractions: Fractions,
) -> UInt8[np.ndarray, " groups"]:
    found = np.full(len(names), TRAIN, dtype=np.uint8)
    order = np.argsort(
        scatter(names ^ np.uint64(hash_of(f"split {fractions.seed}"))), kind="stable"
    )
    waiting = order[~kept[order]]
    for split, part in ((VALID, fractions.valid), (TEST, fractions.test)):
        if part:
            chosen = _fill(waiting, sizes, wanted=part * float(sizes.sum()))
            found[chosen] = split
            waiting = waiting[found[waiting] == TRAIN]
            if not len(chosen) or not (found == TRAIN).any():
                raise ValueError(_too_few(len(names)))
    return found


def _fill(
    waiting: Int[np.ndarray, " waiting"], sizes: Int[np.ndarray, " groups"], *, wanted: float
) -> list[int]:
    """Groups from the front of `waiting` that make up the wanted number of structures.

    One that would lead further away from it is passed over; where all would, the smallest is taken.
    """
    chosen, taken = [], 0
    for group in waiting:
        if taken >= wanted:
            break
        if sizes[group] <= 2 * (wanted - taken):
            chosen.append(int(group))
            taken += int(sizes[group])
    if not chosen and len(waiting):
        return [int(waiting[np.argmin(sizes[waiting])])]
    return chosen


def _too_few(n_groups: int) -> str:
    return (
        f"the data are {n_groups} group(s) of structures that belong together, too few to set some "
        "aside for validation and test; where frames are independent choose other groups (the "
        "options group_key and group_by), or give --valid-fraction 0 --test-fraction 0"
    )
