"""The numbers of an audit in words, for the terminal and for the page."""

from ase.data import chemical_symbols
from ase.units import GPa

from gfm_pretrain.data.audit.bins import Extent
from gfm_pretrain.data.audit.statistics import Statistics

PERIODIC = ("molecules", "chains", "layers", "crystals")
"""Structures that repeat in 0, 1, 2 and 3 directions."""


def summarise(statistics: Statistics) -> list[tuple[str, str]]:
    """What there is, and its number, range and unit; nothing that the data do not have."""
    if not statistics.n_structures:
        return [("structures", "none")]
    rows = [*_count(statistics), *_measure(statistics)]
    return [(name, value) for name, value in rows if value]


def elements_in(statistics: Statistics) -> dict[str, tuple[int, int]]:
    """Structures that have an element and atoms of it, by chemical symbol."""
    present = statistics.atoms_of.nonzero()[0]
    return {
        chemical_symbols[z]: (int(statistics.structures_with[z]), int(statistics.atoms_of[z]))
        for z in present
    }


def _count(statistics: Statistics) -> list[tuple[str, str]]:
    kinds = zip(PERIODIC, statistics.periodic.tolist(), strict=True)
    labels = {
        "energy": statistics.n_energies,
        "forces": statistics.n_forces,
        "stress": statistics.n_stresses,
    }
    elements = elements_in(statistics)
    return [
        ("structures", f"{statistics.n_structures:,}"),
        ("atoms", f"{statistics.n_atoms:,}"),
        ("periodicity", ", ".join(f"{n:,} {name}" for name, n in kinds if n)),
        ("labels", ", ".join(f"{name} of {n:,}" for name, n in labels.items() if n)),
        ("elements", f"{len(elements)}: {' '.join(elements)}"),
        ("atoms in a structure", f"{min(statistics.sizes):,} to {max(statistics.sizes):,}"),
    ]


def _measure(statistics: Statistics) -> list[tuple[str, str]]:
    force, interaction = statistics.force, statistics.interaction
    return [
        ("shortest distance in a structure", _range(statistics.shortest, "Å")),
        ("volume per atom", _range(statistics.volume, "Å³")),
        ("energy per atom", _range(statistics.energy, "eV", digits=6)),
        ("energy per atom without E0", _range(interaction, "eV")),
        ("its standard deviation", f"{interaction.spread:.3g} eV" if interaction.n else ""),
        ("largest force", f"{force.high:.4g} eV/Å" if force.n else ""),
        (
            "root mean square of force components",
            f"{force.rms / 3**0.5:.3g} eV/Å" if force.n else "",
        ),
        ("pressure", _range(statistics.pressure, "GPa", unit_in_ev=GPa)),
    ]


def _range(extent: Extent, unit: str, *, digits: int = 4, unit_in_ev: float = 1.0) -> str:
    if not extent.n:
        return ""
    low, high = (f"{value / unit_in_ev:.{digits}g}" for value in (extent.low, extent.high))
    return f"{low} to {high} {unit}" if low != high else f"{low} {unit}"
