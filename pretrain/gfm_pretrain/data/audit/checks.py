"""What is checked of each structure at import, and what is done about what is found."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gfm_pretrain.data.audit.measures import EDGE_RADII, Measures, fingerprint, measure
from gfm_pretrain.data.sources.source import Record
from gfm_pretrain.data.structure import LabelledStructure

__all__ = ["EDGE_RADII", "KINDS", "Finding", "Measures", "Policy", "check", "finiteness"]
__all__ += ["fingerprint", "measure"]

Action = Literal["refuse", "keep", "stop"]

CLOSEST = 0.5
"""Å; the shortest bond, that of H2, has 0.74."""
LARGEST_FORCE = 500.0
"""eV/Å; the screened nuclei of two carbon atoms at 0.5 Å repel each other with 620 (Ziegler,
Biersack and Littmark, The Stopping and Range of Ions in Solids, 1985)."""
LARGEST_STRESS = 10.0
"""eV/Å^3, 1600 GPa: four times the pressure at the centre of the Earth."""
THOMAS_FERMI = 20.9
"""eV; an atom with all its electrons has an energy of about -20.9 Z^(7/3), the limit of large Z
(Lieb and Simon, Adv. Math. 23, 22, 1977); with fewer electrons or another zero it has less."""
LARGEST_ENERGY = 2.0
"""In Thomas–Fermi energies, with room for relativity."""
SMALLEST_VOLUME_PER_ATOM = 1.0
"""Å^3; hydrogen at some 1000 GPa has about that."""
LARGEST_MEAN_FORCE = 0.02
"""eV/Å per atom; forces that come from an energy sum to zero, so a mean force is an error that no
potential can avoid, and this one is as large as all the others that a good potential makes."""
FARTHEST = 256.0
"""Å; from here on single precision keeps a coordinate to 1.5e-5 only."""

KINDS: Mapping[str, str] = {
    "invalid": "a shape, an element or a cell that cannot be right",
    "unreadable": "a record that its reader could not make sense of",
    "nonfinite": "a coordinate or a label that is infinite or not a number",
    "unlabelled": "neither an energy nor forces",
    "duplicate": "the geometry of another structure, or one that its publishers ask to leave out",
    "split_leak": "its molecule, material or trajectory is also in the validation or test set",
    "unseen_element": "an element that no training structure has",
    "close": f"atoms closer than {CLOSEST} Å",
    "absurd": "a force, stress, energy or volume far outside of chemistry",
    "net_force": f"forces that do not sum to zero: more than {LARGEST_MEAN_FORCE} eV/Å per atom",
    "energy_outlier": "an energy per atom far from all others",
    "remote": f"a coordinate beyond {FARTHEST:g} Å, which single precision rounds",
    "over_budget": "more edges than the memory of a GPU is meant to hold",
}
"""All kinds of finding."""
KEPT_BY_DEFAULT = ("net_force", "energy_outlier", "remote")
NEVER_KEPT: Mapping[str, str] = {
    "invalid": "it cannot be stored",
    "unreadable": "there is nothing to keep",
    "nonfinite": "one such value makes every weight of the network not a number",
    "unlabelled": "there is nothing to learn from it",
    "unseen_element": "the network knows no reference energy for the element",
    "over_budget": "it would not fit into memory; raise --budget instead",
}
"""Why some kinds are never kept."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or may be, with one record."""

    kind: str
    """One of `KINDS`."""
    identifier: str
    """Leads back to the record."""
    reason: str
    """What was found, in one line."""


@dataclass(frozen=True)
class Policy:
    """What is done about each kind of finding."""

    actions: Mapping[str, Action]
    """By kind, all of them."""

    @classmethod
    def of(cls, *, refuse: tuple[str, ...] = (), keep: tuple[str, ...] = ()) -> "Policy":
        """The default, except for what the user wants refused or kept.

        Raises:
            ValueError: a kind is unknown, is given twice, or may never be kept.
        """
        for kind in (*refuse, *keep):
            _check_kind(kind)
        for kind in keep:
            if kind in refuse:
                raise ValueError(f"'{kind}' cannot be both refused and kept; choose one")
            if kind in NEVER_KEPT:
                raise ValueError(f"'{kind}' cannot be kept: {NEVER_KEPT[kind]}")
        actions: dict[str, Action] = dict.fromkeys(KINDS, "refuse")
        actions |= {**dict.fromkeys(KEPT_BY_DEFAULT, "keep"), "over_budget": "stop"}
        return cls({**actions, **dict.fromkeys(refuse, "refuse"), **dict.fromkeys(keep, "keep")})

    def action(self, kind: str) -> Action:
        """What is done: leave the structure out, keep it and say so, or stop the import.

        Raises:
            ValueError: there is no such kind.
        """
        _check_kind(kind)
        return self.actions[kind]


def finiteness(record: Record) -> Finding | None:
    """What keeps a record from becoming a structure: a value that is not finite, or no labels."""
    for name in ("positions", "cell", "energy", "forces", "stress"):
        value = getattr(record, name)
        if value is not None and not np.isfinite(value).all():
            n_bad = int(np.count_nonzero(~np.isfinite(value)))
            reason = f"`{name}` must be finite, got {n_bad} values that are not"
            return Finding("nonfinite", record.identifier, reason)
    if record.energy is None and record.forces is None:
        return Finding("unlabelled", record.identifier, "it has neither an energy nor forces")
    return None


def check(structure: LabelledStructure, measures: Measures, *, budget: int) -> list[Finding]:
    """Find what is wrong with a structure, or may be.

    Args:
        structure: Of which all values are finite.
        measures: Of this structure.
        budget: Most edges inside the largest radius.
    """
    reasons = {
        "over_budget": _over_budget(structure, measures, budget),
        "close": _close(measures),
        "absurd": _absurd(structure, measures),
        "net_force": _net_force(structure, measures),
        "remote": _remote(structure),
    }
    return [Finding(kind, structure.identifier, why) for kind, why in reasons.items() if why]


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"there is no finding of kind '{kind}'; the kinds are {', '.join(KINDS)}")


def _over_budget(structure: LabelledStructure, measures: Measures, budget: int) -> str:
    if measures.n_edges[-1] <= budget:
        return ""
    return (
        f"structure {structure.identifier} has {measures.n_edges[-1]} edges inside "
        f"{EDGE_RADII[-1]:g} Å, more than the budget of {budget}: raise --budget, or leave it out "
        "with --refuse over_budget"
    )


def _close(measures: Measures) -> str:
    distance = measures.shortest_distance
    return f"two atoms are {distance:.3f} Å apart" if distance < CLOSEST else ""


def _absurd(structure: LabelledStructure, measures: Measures) -> str:
    if measures.largest_force > LARGEST_FORCE:
        return f"a force of {measures.largest_force:.4g} eV/Å"
    if structure.stress is not None and np.abs(structure.stress).max() > LARGEST_STRESS:
        return f"a stress of {np.abs(structure.stress).max():.4g} eV/Å^3"
    largest = LARGEST_ENERGY * THOMAS_FERMI * float((structure.atomic_numbers ** (7 / 3)).sum())
    if structure.energy is not None and abs(structure.energy) > largest:
        return f"an energy of {structure.energy:.6g} eV; all electrons together have {largest:.3g}"
    volume = abs(np.linalg.det(structure.cell)) / structure.n_atoms
    if structure.pbc.all() and volume < SMALLEST_VOLUME_PER_ATOM:
        return f"a volume of {volume:.3g} Å^3 per atom"
    return ""


def _net_force(structure: LabelledStructure, measures: Measures) -> str:
    mean = measures.net_force / structure.n_atoms
    return f"a mean force of {mean:.3f} eV/Å per atom" if mean > LARGEST_MEAN_FORCE else ""


def _remote(structure: LabelledStructure) -> str:
    farthest = float(np.abs(structure.positions).max())
    return f"a coordinate of {farthest:.0f} Å; move it to the origin" if farthest > FARTHEST else ""
