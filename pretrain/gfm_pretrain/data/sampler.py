"""Which structures a head sees in which step: a pure function, the same for any number of ranks."""

import hashlib
import math

import numpy as np
from jaxtyping import Int64, UInt64

from gfm_pretrain.data.scatter import scatter

N_ROUNDS = 8
"""Rounds of the network, an even number. Four make a good permutation of large sets (Luby and
Rackoff, SIAM J. Comput. 17, 373, 1988). Of four structures some orders come too often with six,
none with eight, as 40 000 of them show."""
SMALLEST_SIDE = 4
"""Of the rectangle that is permuted."""


def dealt_places(
    dealt: range, *, seed: int, key: str, n_structures: int
) -> Int64[np.ndarray, " batch"]:
    """Places of some numbers of the endless sequence in which a head's structures are dealt.

    The training set is dealt in a new order every epoch, without gaps between epochs: a batch may
    hold the end of one and the beginning of the next. Which numbers are of which step says `Deal`;
    the state of the sampler is the step alone.

    Args:
        dealt: The numbers.
        seed: Of the run.
        key: Names the sequence; see `Deal`.
        n_structures: Structures in the training set, at least one.
    """
    epochs, positions = np.divmod(np.arange(dealt.start, dealt.stop), n_structures)
    distinct, row = np.unique(epochs, return_inverse=True)
    keys = np.empty((N_ROUNDS, len(distinct)), dtype=np.uint64)
    for column, epoch in enumerate(distinct):
        keys[:, column] = _round_keys(f"{seed}/{key}/{epoch}")
    return _permute(positions, n_structures, keys[:, row])


def _permute(
    positions: Int64[np.ndarray, " items"], n: int, keys: UInt64[np.ndarray, "rounds items"]
) -> Int64[np.ndarray, " items"]:
    """Where random permutations of n items, which are stored nowhere, take some of them.

    A Feistel network permutes the numbers below height · width, the smallest near-square that
    holds n; one that it takes beyond n goes through it again until it comes back, which leaves a
    permutation of n. Source: Black and Rogaway, Ciphers with arbitrary finite domains, CT-RSA 2002:
    generalized Feistel and cycle walking.
    """
    height = max(SMALLEST_SIDE, math.isqrt(n - 1) + 1)
    width = max(SMALLEST_SIDE, -(-n // height))
    numbers = _feistel(positions.astype(np.uint64), height, width, keys)
    while (outside := numbers >= n).any():
        numbers[outside] = _feistel(numbers[outside], height, width, keys[:, outside])
    return numbers.astype(np.int64)


def _feistel(
    numbers: UInt64[np.ndarray, " items"],
    height: int,
    width: int,
    keys: UInt64[np.ndarray, "rounds items"],
) -> UInt64[np.ndarray, " items"]:
    """Permute the places of a rectangle: each round moves one coordinate, by what the other is."""
    row, column = np.divmod(numbers, np.uint64(width))
    for this, other in zip(keys[::2], keys[1::2], strict=True):
        row = (row + scatter(column ^ this) % np.uint64(height)) % np.uint64(height)
        column = (column + scatter(row ^ other) % np.uint64(width)) % np.uint64(width)
    return row * np.uint64(width) + column


def _round_keys(name: str) -> UInt64[np.ndarray, " rounds"]:
    digest = hashlib.blake2b(name.encode(), digest_size=8 * N_ROUNDS).digest()
    return np.frombuffer(digest, dtype="<u8")
