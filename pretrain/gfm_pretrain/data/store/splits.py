"""Which structures train, validate and test: as published, else by group, never by frame."""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, UInt8, UInt64

TRAIN, VALID, TEST, NONE = range(4)
"""Numbers of the splits; NONE: no split is published."""


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
    in_test = np.isin(groups, np.unique(groups[published == TEST]))
    in_valid = np.isin(groups, np.unique(groups[published == VALID]))
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
        published: TRAIN, VALID, TEST or NONE.
        groups: Hash of each structure's group.
        fractions: Of the structures without a published split, for validation and test.
        must_train: Structures that have to be in the training set, with their groups.

    Raises:
        ValueError: there are too few groups.
    """
    splits = published.copy()
    free = published == NONE
    if not free.any():
        return splits
    names, group_of, sizes = np.unique(groups[free], return_inverse=True, return_counts=True)
    kept = np.isin(names, groups[must_train])
    splits[free] = _split_of_groups(names, sizes, kept=kept, fractions=fractions)[group_of]
    return splits


def _split_of_groups(
    names: UInt64[np.ndarray, " groups"],
    sizes: Int[np.ndarray, " groups"],
    *,
    kept: Bool[np.ndarray, " groups"],
    fractions: Fractions,
) -> UInt8[np.ndarray, " groups"]:
    found = np.full(len(names), TRAIN, dtype=np.uint8)
    order = np.argsort(_scatter(names, fractions.seed), kind="stable")
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


def _scatter(names: UInt64[np.ndarray, " groups"], seed: int) -> UInt64[np.ndarray, " groups"]:
    """A number for each group that has nothing to do with its name's order.

    The finaliser of splitmix64: Steele, Lea and Flood, OOPSLA 2014, 453.
    """
    x = names ^ np.uint64(hash_of(f"split {seed}"))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))
