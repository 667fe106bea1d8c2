"""The contract of a potential: the physics that every backbone, kernel and wrapper must pass.

Use it on your own potential, in float64 and float32:

    for name, check in gfm_models.testing.CHECKS.items():
        check(potential, "my-head")

Each check raises AssertionError with the numbers that disagree. The potential must know at least
one element; structures are made of the elements its head knows.
"""

from collections.abc import Callable

from gfm_models.potential import MultiHeadPotential
from gfm_models.testing.gradients import (
    check_double_backward,
    check_energy_sum,
    check_forces,
    check_stress,
)
from gfm_models.testing.limits import (
    check_close_approach,
    check_cutoff,
    check_empty_graph,
    check_isolated_atoms,
    check_same_position,
)
from gfm_models.testing.symmetries import (
    check_batching,
    check_extensivity,
    check_left_handed_cell,
    check_mixed_periodicity,
    check_permutation,
    check_rotation,
    check_supercell,
    check_translation,
)

CHECKS: dict[str, Callable[[MultiHeadPotential, str], None]] = {
    "rotation": check_rotation,
    "translation": check_translation,
    "permutation": check_permutation,
    "left-handed cell": check_left_handed_cell,
    "supercell": check_supercell,
    "extensivity": check_extensivity,
    "mixed periodicity": check_mixed_periodicity,
    "batching": check_batching,
    "isolated atoms": check_isolated_atoms,
    "empty graph": check_empty_graph,
    "energy sum": check_energy_sum,
    "forces": check_forces,
    "stress": check_stress,
    "cutoff": check_cutoff,
    "close approach": check_close_approach,
    "same position": check_same_position,
    "double backward": check_double_backward,
}
"""Every check by name."""
