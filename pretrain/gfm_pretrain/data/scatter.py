"""Numbers that have nothing to do with those they are made from, the same on every machine."""

import numpy as np
from jaxtyping import UInt64


def scatter(x: UInt64[np.ndarray, " numbers"]) -> UInt64[np.ndarray, " numbers"]:
    """A permutation of the 64-bit numbers that looks random: the finaliser of splitmix64.

    Source: Steele, Lea and Flood, OOPSLA 2014, 453.
    """
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))
