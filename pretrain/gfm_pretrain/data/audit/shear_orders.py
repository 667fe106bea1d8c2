"""In which order the shear components of a stress must be taken for energies to follow it.

Programs write six numbers in different orders: yz, xz, xy (Voigt), xy, yz, zx (VASP) or xy, xz, yz
(LAMMPS) after the first three. Whoever reads one for another has the right numbers in wrong places,
which no unit, sign or size shows, and only cells that are sheared tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np
from jaxtyping import Float64, Int64

from gfm_pretrain.data.audit.ratios import SMALLEST_CHANGE

COMPONENTS = ("yz", "xz", "xy")
ROWS, COLUMNS = [1, 0, 0], [2, 2, 1]
"""Of `COMPONENTS` in a matrix."""
ORDERS = tuple(permutations(range(3)))
"""Where yz, xz and xy are taken from; the first order is as they are."""
SHARE_OF_SHEAR = 0.2
"""Part of the change of energy that the order must decide on for a pair to tell of it."""
TOLERANCE = 0.2
"""Of what the order decides on: an energy that is off by less follows the stress."""


def _no_counts() -> Int64[np.ndarray, " orders_and_1"]:
    return np.zeros(len(ORDERS) + 1, dtype=np.int64)


@dataclass(eq=False)
class ShearOrders:
    """How many pairs of configurations have energies that follow the stress as it is, or else not.

    Sets are made of parts, of which one may be wrong: what counts is how many pairs follow another
    order alone.
    """

    counts: Int64[np.ndarray, " orders_and_1"] = field(default_factory=_no_counts)
    """Pairs that follow the first of `ORDERS`, and those that do not, but each of the others; the
    last is of all pairs that tell."""

    def __len__(self) -> int:
        return int(self.counts[-1])

    def add(self, change: float, works: Float64[np.ndarray, " orders"]) -> None:
        """Count one pair, unless all orders say much the same.

        Args:
            change: Of the energy, without the work of the forces, in eV.
            works: Of the stress in eV, its shear components in each of `ORDERS`.
        """
        decided = float(np.ptp(works))
        if decided < max(SMALLEST_CHANGE, SHARE_OF_SHEAR * abs(change)):
            return
        follows = np.abs(change - works) < TOLERANCE * decided
        self.counts[:-1] += follows & (~follows[0] | (np.arange(len(ORDERS)) == 0))
        self.counts[-1] += 1

    def other(self) -> tuple[int, int]:
        """The other one of `ORDERS` that most pairs follow, its place and their number."""
        place = 1 + int(self.counts[1:-1].argmax())
        return place, int(self.counts[place])

    def to_mapping(self) -> dict[str, int]:
        """Plain values for JSON: what is not zero."""
        return {
            name: int(count) for name, count in zip(_NAMES, self.counts, strict=True) if count > 0
        }

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, int]) -> "ShearOrders":
        """From what `to_mapping` gave."""
        return cls(np.array([mapping.get(name, 0) for name in _NAMES], dtype=np.int64))


def works_of_stress(
    virial: Float64[np.ndarray, "3 3"], strain: Float64[np.ndarray, "3 3"]
) -> Float64[np.ndarray, " orders"]:
    """Work of a stress in each order of its shear components.

    Args:
        virial: Stress times volume in eV, symmetric.
        strain: Symmetric.
    """
    normal = np.diag(virial) @ np.diag(strain)
    shear = virial[ROWS, COLUMNS][np.array(ORDERS)] @ strain[ROWS, COLUMNS]
    return normal + 2 * shear


def name_of(order: int) -> str:
    """Where yz, xz and xy are taken from, in words."""
    return ", ".join(COMPONENTS[place] for place in ORDERS[order])


_NAMES = (*map(name_of, range(len(ORDERS))), "pairs")
