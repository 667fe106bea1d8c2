"""Reference energies E0 per element, and the scale of forces per element.

A total energy is E = Σ_atoms E0(element) + interaction. The network learns the interaction; E0
is found here, from the data of one level of theory. Wrong E0 are the most common cause of failed
fine-tuning, so `ReferenceEnergies.origin` says in words what was done.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers as number_of_symbol
from ase.data import chemical_symbols
from jaxtyping import Float64, Int64

from gfm_pretrain.data.structure import LabelledStructure

HUBER_THRESHOLD = 1.345
"""In standard deviations: 95 % efficient on Gaussian errors (Huber, Robust Statistics, 1981)."""
MAD_TO_STANDARD_DEVIATION = 1.4826
"""Of a Gaussian, from its median absolute deviation."""
N_REWEIGHTINGS = 10
SMALLEST_ENERGY_SCALE = 1e-6
"""eV per atom; residuals below are rounding, not outliers."""
PSEUDO_COUNT = 100
"""Atoms of the whole set's force scale that are added to those of each element."""
SMALLEST_FORCE_SCALE = 1e-2
"""eV/Å (or eV per atom, where no forces are labelled)."""
SAME_ENERGY = 1e-4
"""eV; two isolated atoms of one element that differ by more contradict each other."""


@dataclass(frozen=True)
class ReferenceEnergies:
    """Energy E0 of each element and where it came from."""

    values: dict[int, float]
    """eV, by atomic number."""
    origin: str
    """One sentence for the checkpoint and the user."""


def isolated_atom_energies(structures: Iterable[LabelledStructure]) -> dict[int, float]:
    """Collect the energies (eV) of single, non-periodic atoms, by atomic number.

    Raises:
        ValueError: two isolated atoms of one element have different energies.
    """
    found: dict[int, LabelledStructure] = {}
    for structure in structures:
        if structure.n_atoms == 1 and structure.energy is not None and not structure.pbc.any():
            first = found.setdefault(int(structure.atomic_numbers[0]), structure)
            _check_same_energy(first, structure)
    return {number: _energy(structure) for number, structure in sorted(found.items())}


def _check_same_energy(first: LabelledStructure, second: LabelledStructure) -> None:
    if abs(_energy(first) - _energy(second)) > SAME_ENERGY:
        symbol = chemical_symbols[int(first.atomic_numbers[0])]
        raise ValueError(
            f"isolated {symbol} atoms have different energies: {first.identifier} "
            f"{_energy(first):.6f} eV, {second.identifier} {_energy(second):.6f} eV; "
            f"keep the ground state only"
        )


def fit_reference_energies(
    structures: Sequence[LabelledStructure],
    *,
    interaction_energies: Float64[np.ndarray, "structures"] | None = None,
) -> ReferenceEnergies:
    """Fit E0 so that the energies per atom follow from the composition alone.

        min over E0 of Σ_s w_s [(E_s - I_s) / n_s - Σ_Z (n_sZ / n_s) E0_Z]²

    with weights w_s reweighted after Huber, so that a few wrong labels do not matter. Compositions
    in the data may leave combinations of E0 undetermined (ethanol alone fixes one of three). The
    rule then: start from the mean energy per atom for every element, and add the smallest
    deviation, as the 2-norm over elements, that fits. Energies of compositions within the span of
    those in the data are still right; other compositions are an extrapolation.

    Args:
        structures: those without an energy are left out.
        interaction_energies: I_s (eV), an energy that is already accounted for, as that of a
            pretrained network when its E0 are fitted to new data; zero by default.

    Raises:
        ValueError: no structure has an energy, or `interaction_energies` has another length or is
            not finite.
    """
    energies = _interaction_free_energies(structures, interaction_energies)
    labelled = [structure for structure in structures if structure.energy is not None]
    elements = _elements(labelled)
    counts = _count_elements(labelled, elements)
    n_atoms = counts.sum(axis=1)
    fractions, targets = counts / n_atoms[:, None], energies / n_atoms
    mean = float(energies.sum() / n_atoms.sum())
    deviations = _robust_least_squares(fractions, targets - mean)
    rank = int(np.linalg.matrix_rank(np.unique(counts, axis=0)))
    values = {int(z): mean + float(d) for z, d in zip(elements, deviations, strict=True)}
    return ReferenceEnergies(values, _describe_fit(len(labelled), len(elements), rank, mean))


def _interaction_free_energies(
    structures: Sequence[LabelledStructure],
    interaction_energies: Float64[np.ndarray, "structures"] | None,
) -> Float64[np.ndarray, "labelled"]:
    if interaction_energies is None:
        interaction_energies = np.zeros(len(structures))
    if interaction_energies.shape != (len(structures),):
        raise ValueError(
            f"`interaction_energies` must have shape [{len(structures)}], one per structure, "
            f"got {list(interaction_energies.shape)}"
        )
    pairs = zip(structures, interaction_energies, strict=True)
    energies = np.array([s.energy - i for s, i in pairs if s.energy is not None])
    if energies.size == 0:
        raise ValueError(
            f"reference energies cannot be fitted: none of {len(structures)} structures has an "
            f"energy; give the energy of each element instead"
        )
    if not np.isfinite(energies).all():
        raise ValueError("`interaction_energies` must be finite")
    return energies


def _robust_least_squares(
    matrix: Float64[np.ndarray, "rows columns"], targets: Float64[np.ndarray, "rows"]
) -> Float64[np.ndarray, "columns"]:
    """Solve min Σ huber(row residual) by reweighting; the shortest solution where several are."""
    weights = np.ones(len(targets))
    solution = np.zeros(matrix.shape[1])
    for _ in range(N_REWEIGHTINGS):
        root = np.sqrt(weights)
        solution = np.linalg.lstsq(matrix * root[:, None], targets * root, rcond=1e-10)[0]
        size = np.abs(targets - matrix @ solution)
        deviation = max(MAD_TO_STANDARD_DEVIATION * np.median(size), SMALLEST_ENERGY_SCALE)
        weights = np.minimum(1.0, HUBER_THRESHOLD * deviation / np.maximum(size, deviation))
    return solution


def _describe_fit(n_structures: int, n_elements: int, rank: int, mean: float) -> str:
    fit = (
        f"robust least squares of {n_structures} energies on the composition, "
        f"rank {rank} of {n_elements} elements"
    )
    if rank == n_elements:
        return fit
    return f"{fit}; undetermined combinations stay at the mean energy per atom, {mean:.6f} eV"


def resolve_reference_energies(
    structures: Sequence[LabelledStructure], given: Mapping[str, float] | str | None = None
) -> ReferenceEnergies:
    """Find E0 of all elements in the data the way the user asks for.

    Args:
        structures: the training data of one head.
        given: a mapping from chemical symbols to E0 (eV); "isolated": the isolated atoms in the
            data; "fit": least squares; "auto" or None: isolated atoms where they cover all
            elements, else least squares.

    Raises:
        ValueError: an unknown choice or symbol, an element without E0, or no energies to fit to.
    """
    if isinstance(given, Mapping):
        return _given_energies(structures, given)
    choice = given or "auto"
    if choice not in ("auto", "isolated", "fit"):
        raise ValueError(
            f"reference energies must be 'auto', 'isolated', 'fit' or an energy for each element, "
            f"got {given!r}"
        )
    if choice == "fit":
        return fit_reference_energies(structures)
    isolated = isolated_atom_energies(structures)
    missing = _missing(structures, isolated)
    if not missing:
        return ReferenceEnergies(isolated, "isolated atoms in the data")
    if choice == "auto":
        return fit_reference_energies(structures)
    raise ValueError(
        f"the data have no isolated atom of {', '.join(missing)}; add them, or use 'fit'"
    )


def _given_energies(
    structures: Sequence[LabelledStructure], given: Mapping[str, float]
) -> ReferenceEnergies:
    unknown = [symbol for symbol in given if symbol not in number_of_symbol or symbol == "X"]
    if unknown:
        raise ValueError(
            f"reference energies name {', '.join(map(repr, unknown))}, which is no chemical symbol"
        )
    values = {number_of_symbol[symbol]: float(energy) for symbol, energy in given.items()}
    if missing := _missing(structures, values):
        raise ValueError(
            f"reference energies are missing for {', '.join(missing)}; add them, or use 'fit'"
        )
    if not np.isfinite(list(values.values())).all():
        raise ValueError(f"reference energies must be finite, got {dict(given)}")
    return ReferenceEnergies(dict(sorted(values.items())), "given by the user")


def _missing(structures: Iterable[LabelledStructure], values: Mapping[int, float]) -> list[str]:
    return [chemical_symbols[z] for z in _elements(structures) if int(z) not in values]


def force_scales(structures: Sequence[LabelledStructure]) -> dict[int, float]:
    """Scale of the force components of each element (eV/Å), by atomic number.

    The root mean square over the element's atoms and 100 further ones that have the root mean
    square of the whole set, so that an element with few atoms gets a sensible scale; at least
    0.01 eV/Å. Without any forces, every element gets the standard deviation of the energy per atom
    (eV) that remains after the fit of reference energies.

    Raises:
        ValueError: no structure has forces or an energy.
    """
    labelled = [structure for structure in structures if structure.forces is not None]
    elements = _elements(structures)
    if not labelled:
        return dict.fromkeys(map(int, elements), _energy_scale(structures))
    numbers = np.concatenate([structure.atomic_numbers for structure in labelled])
    squares = np.concatenate([_mean_square_per_atom(structure) for structure in labelled])
    column = np.searchsorted(elements, numbers)
    n_atoms = np.bincount(column, minlength=len(elements))
    sums = np.bincount(column, weights=squares, minlength=len(elements))
    shrunk = (sums + PSEUDO_COUNT * squares.mean()) / (n_atoms + PSEUDO_COUNT)
    scales = np.maximum(np.sqrt(shrunk), SMALLEST_FORCE_SCALE)
    return {int(z): float(scale) for z, scale in zip(elements, scales, strict=True)}


def _mean_square_per_atom(structure: LabelledStructure) -> Float64[np.ndarray, "atoms"]:
    assert structure.forces is not None
    return (structure.forces**2).mean(axis=1)


def _energy_scale(structures: Sequence[LabelledStructure]) -> float:
    reference = fit_reference_energies(structures).values
    residuals = [
        (s.energy - sum(reference[int(z)] for z in s.atomic_numbers)) / s.n_atoms
        for s in structures
        if s.energy is not None
    ]
    return max(float(np.std(residuals)), SMALLEST_FORCE_SCALE)


def _energy(structure: LabelledStructure) -> float:
    assert structure.energy is not None
    return structure.energy


def _elements(structures: Iterable[LabelledStructure]) -> Int64[np.ndarray, "elements"]:
    found = {int(z) for structure in structures for z in np.unique(structure.atomic_numbers)}
    return np.array(sorted(found), dtype=np.int64)


def _count_elements(
    structures: Sequence[LabelledStructure], elements: Int64[np.ndarray, "elements"]
) -> Int64[np.ndarray, "structures elements"]:
    columns = (np.searchsorted(elements, structure.atomic_numbers) for structure in structures)
    return np.array([np.bincount(column, minlength=len(elements)) for column in columns])
