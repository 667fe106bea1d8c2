"""Which structures a head sees in which step: a pure function, the same for any number of ranks."""

import hashlib
from functools import lru_cache

import numpy as np
from jaxtyping import Int


def batch_places(
    *, seed: int, head: str, step: int, batch_size: int, n_structures: int
) -> Int[np.ndarray, " batch_size"]:
    """Places of the structures of one step in the head's training set.

    The training set is dealt in a new order every epoch, without gaps between epochs: a batch may
    hold the end of one and the beginning of the next. The order is made by a counter-based
    generator keyed by seed, head and epoch, so the state of the sampler is the step alone.
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, within = np.divmod(positions, n_structures)
    return np.array(
        [_order(seed, head, int(e), n_structures)[w] for e, w in zip(epochs, within, strict=True)]
    )


@lru_cache(maxsize=64)
def _order(seed: int, head: str, epoch: int, n_structures: int) -> Int[np.ndarray, " structures"]:
    key = hashlib.sha256(f"{seed}/{head}/{epoch}".encode()).digest()
    generator = np.random.Generator(np.random.Philox(key=np.frombuffer(key[:16], dtype=np.uint64)))
    return generator.permutation(n_structures)
