"""What the tests of units and signs found, in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gfm_pretrain.data.audit.consistency import Consistency
from gfm_pretrain.data.audit.pressure_offsets import PressureOffsets
from gfm_pretrain.data.audit.ratios import Ratios
from gfm_pretrain.data.audit.shear_orders import ShearOrders, name_of

FEWEST_PAIRS = 10
"""With fewer, chance decides."""
SAME_RATIO = 0.1
"""Of the logarithm: how near the median ratio must be to one that is understood."""
LARGEST_RATIO = 1e4
"""Beyond, and below its inverse, one of the two does not change at all."""
WIDEST_QUARTILES = 3.0
"""Their ratio; beyond, the median means little."""
SHARE_OF_ORDER = 0.1
"""Part of the pairs that must follow another order of the stress alone; of those of right sets 2 %
do by chance."""
SHARE_OF_OFFSET = 0.25
"""Part of the pairs that must miss the same pressure."""
LARGEST_OFFSET = 2.0
"""GPa; with strains of a tenth, the second order alone makes 1 GPa of it in hard metals."""
LARGEST_ENERGY_SPREAD = 50.0
"""eV per atom; five times the strongest bonds, so composition must explain the rest."""

FORCE_RATIOS: Mapping[float, str] = {
    27.2114: "the forces look like Hartree/Å",
    1 / 27.2114: "the energies look like Hartree",
    51.4221: "the forces look like Hartree/bohr",
    1 / 51.4221: "the forces look like Hartree/bohr, converted twice",
    13.6057: "the forces look like Rydberg/Å",
    1 / 13.6057: "the energies look like Rydberg",
    25.7110: "the forces look like Rydberg/bohr",
    1.889726: "the forces look like eV/bohr",
    0.529177: "the positions look like bohr",
    23.0605: "the energies look like kcal/mol",
    1 / 23.0605: "the forces look like kcal/mol/Å",
    96.4853: "the energies look like kJ/mol",
    1 / 96.4853: "the forces look like kJ/mol/Å",
}
"""What a ratio of the change of energy to the work of the forces may mean."""
STRESS_RATIOS: Mapping[float, str] = {
    1 / 1602.18: "the stress looks like kbar",
    1 / 160.218: "the stress looks like GPa",
    183.631: "the stress looks like Hartree/bohr^3",
    91.8157: "the stress looks like Rydberg/bohr^3",
    27.2114: "the stress looks like Hartree/Å^3",
    1 / 27.2114: "the energies look like Hartree",
}
"""The same for the work of the stress."""


@dataclass(frozen=True)
class Verdict:
    """What one test found."""

    mark: Literal["good", "suspicious", "unknown"]
    """Whether anyone has to look."""
    text: str
    """For people."""


def judge_consistency(consistency: Consistency) -> list[Verdict]:
    """What the forces and what the stress look like, and what else may be wrong with the stress."""
    per_atom = consistency.per_atom
    forces = _judge("forces", consistency.forces, FORCE_RATIOS, per_atom=per_atom)
    stress = _judge("stress", consistency.stress, STRESS_RATIOS)
    others = _judge_order(consistency.shear)
    if not _is_wrong(consistency.stress, STRESS_RATIOS):
        others += _judge_offset(consistency.offsets)
    return [forces, stress, *others]


def judge_energies(spread: float | None) -> Verdict:
    """Whether composition explains the energies.

    Args:
        spread: Standard deviation of the energies without E0, eV per atom; None without energies.
    """
    if spread is None:
        return Verdict("unknown", "energies cannot be checked: there are none")
    without = f"without E0, the energies spread by {spread:.3g} eV per atom"
    if spread > LARGEST_ENERGY_SPREAD:
        return Verdict("suspicious", f"{without}: are there several units or levels of theory?")
    return Verdict("good", without)


def _judge(
    subject: str, ratios: Ratios, meanings: Mapping[float, str], *, per_atom: Ratios | None = None
) -> Verdict:
    n = len(ratios)
    if n < FEWEST_PAIRS:
        why = f"{n} pairs of successive configurations, {FEWEST_PAIRS} are needed"
        return Verdict("unknown", f"{subject} cannot be checked: {why}")
    low, median, high = (ratios.quantile(part) for part in (0.25, 0.5, 0.75))
    if problem := _no_change(subject, median):
        return Verdict("suspicious", f"{problem} ({n} pairs)")
    if low * high < 0 or max(low / high, high / low) > WIDEST_QUARTILES:
        scatter = f"half of {n} pairs have ratios from {low:.3g} to {high:.3g}"
        return Verdict("unknown", f"energies do not follow the {subject} closely: {scatter}")
    if median > 0 and abs(np.log(median)) < SAME_RATIO:
        return Verdict("good", f"energies and {subject} agree ({n} pairs)")
    found = _meanings(median, meanings)
    if per_atom is not None and abs(np.log(abs(per_atom.quantile(0.5)))) < SAME_RATIO:
        found = ["the energies look like energies per atom", *found]
    change = f"the energy changes by {median:.4g} times the work of the {subject}, {n} pairs"
    return Verdict("suspicious", f"{_sentence(subject, median, found)} ({change})")


def _judge_order(shear: ShearOrders) -> list[Verdict]:
    """Nothing, unless some energies follow another order alone."""
    order, n = shear.other()
    if n < max(FEWEST_PAIRS, SHARE_OF_ORDER * len(shear)):
        return []
    text = (
        f"in {n} of {len(shear)} pairs of sheared cells the energy follows the stress only if its "
        f"yz, xz, xy are taken for {name_of(order)}, in {shear.counts[0]} as it is"
    )
    return [Verdict("suspicious", text)]


def _judge_offset(offsets: PressureOffsets) -> list[Verdict]:
    """Nothing, unless some energies miss about the same pressure."""
    offset, n = offsets.commonest(beyond=LARGEST_OFFSET)
    if n < max(FEWEST_PAIRS, SHARE_OF_OFFSET * len(offsets)):
        return []
    text = (
        f"in {n} of {len(offsets)} pairs the energy changes as if the pressure were "
        f"{abs(offset):.1f} GPa {'higher' if offset > 0 else 'lower'} than the stress says: too "
        "few plane waves, or labels of two calculations?"
    )
    return [Verdict("suspicious", text)]


def _is_wrong(ratios: Ratios, meanings: Mapping[float, str]) -> bool:
    """Whether sign or unit explain the ratio, so that the numbers mean something else."""
    if len(ratios) < FEWEST_PAIRS:
        return False
    median = ratios.quantile(0.5)
    return median < 0 or bool(_meanings(median, meanings))


def _no_change(subject: str, median: float) -> str:
    if abs(median) > LARGEST_RATIO:
        return f"the energy changes but the {subject} do no work: zero where they are absent?"
    if abs(median) < 1 / LARGEST_RATIO:
        return f"the energy stays the same where the {subject} do work"
    return ""


def _meanings(median: float, meanings: Mapping[float, str]) -> list[str]:
    """What the size of a ratio may mean, the likeliest first."""
    distances = {text: abs(np.log(abs(median) / ratio)) for ratio, text in meanings.items()}
    near = [text for text in distances if distances[text] < SAME_RATIO]
    return sorted(near, key=lambda text: distances[text])


def _sentence(subject: str, median: float, meanings: list[str]) -> str:
    sign = [f"the sign of the {subject} is wrong"] if median < 0 else []
    units = [" or ".join(meanings)] if meanings else []
    if not meanings and abs(np.log(abs(median))) > SAME_RATIO:
        units = [f"energies and {subject} disagree by a factor that no unit explains"]
    return " and ".join(sign + units)
