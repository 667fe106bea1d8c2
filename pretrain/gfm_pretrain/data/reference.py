"""Reference energies E0 per element, and the scale of forces per element.

A total energy is E = Σ_atoms E0(element) + interaction. The network learns the interaction; E0
is found here, from the data of one level of theory. Wrong E0 are the most common cause of failed
fine-tuning, so `ReferenceEnergies.origin` says in words what was done.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Protocol

import numpy as np
from ase.data import atomic_numbers as number_of_symbol
from ase.data import chemical_symbols
from jaxtyping import Float64, Int64

from gfm_pretrain.data.shard import ENERGY, FORCES, Shard
from gfm_pretrain.data.structure import LARGEST_ATOMIC_NUMBER

HUBER_THRESHOLD = 1.345
"""In standard deviations: 95 % efficient on Gaussian errors (Huber, Robust Statistics, 1981)."""
MAD_TO_STANDARD_DEVIATION = 1.4826
"""Of a Gaussian, from its median absolute deviation."""
N_REWEIGHTINGS = 10
UNDETERMINED = 1e-10
"""Singular value, in parts of the largest, below which a combination of E0 is not in the data."""
SMALLEST_ENERGY_SCALE = 1e-6
"""eV per atom; residuals below are rounding, not outliers."""
PSEUDO_COUNT = 100
"""Atoms of the whole set's force scale that are added to those of each element."""
SMALLEST_FORCE_SCALE = 1e-2
"""eV/Å (or eV per atom, where no forces are labelled)."""
SAME_ENERGY = 1e-4
"""eV; two isolated atoms of one element that differ by more contradict each other."""


class Chunked(Protocol):
    """Structures that can be gone through several times, such as a `StructureSet`."""

    def chunks(self) -> Iterator[Shard]:
        """All of them in order, none of the chunks empty."""
        ...


@dataclass(frozen=True)
class ReferenceEnergies:
    """Energy E0 of each element and where it came from."""

    values: dict[int, float]
    """eV, by atomic number."""
    origin: str
    """One sentence for the checkpoint and the user."""


def isolated_atom_energies(structures: Chunked) -> dict[int, float]:
    """Collect the energies (eV) of single, non-periodic atoms, by atomic number.

    Raises:
        ValueError: two isolated atoms of one element have different energies.
    """
    found: dict[int, tuple[float, str]] = {}
    for chunk in structures.chunks():
        alone = (chunk.n_atoms == 1) & (chunk.labels & ENERGY > 0) & ~chunk.pbc.any(axis=1)
        for place in np.flatnonzero(alone):
            number = int(chunk.atomic_numbers[chunk.first_atom[place]])
            energy = float(chunk.energy[place]), chunk.identifier(int(place))
            _check_same_energy(number, found.setdefault(number, energy), energy)
    return {number: energy for number, (energy, _) in sorted(found.items())}


def _check_same_energy(number: int, first: tuple[float, str], other: tuple[float, str]) -> None:
    if abs(first[0] - other[0]) > SAME_ENERGY:
        raise ValueError(
            f"isolated {chemical_symbols[number]} atoms have different energies: {first[1]} "
            f"{first[0]:.6f} eV, {other[1]} {other[0]:.6f} eV; keep the ground state only"
        )


def fit_reference_energies(
    structures: Chunked,
    *,
    interaction_energies: Float64[np.ndarray, "structures"] | None = None,
) -> ReferenceEnergies:
    """Fit E0 so that the energies per atom follow from the composition alone.

        min over E0 of Σ_s w_s [(E_s - I_s) / n_s - Σ_Z (n_sZ / n_s) E0_Z]²

    with weights w_s reweighted after Huber, so that a few wrong labels do not matter. Compositions
    in the data may leave combinations of E0 undetermined (ethanol alone fixes one of three). The
    rule then: start from the mean energy per atom for every element, and add the smallest
    deviation, as the 2-norm over elements, that fits. Energies of compositions within the span of
    those in the data are still right; other compositions are an extrapolation. A combination counts
    as undetermined where its singular value is below 1e-10 of the largest.

    Memory is that of one number for each structure, however many there are.

    Args:
        structures: Those without an energy are left out.
        interaction_energies: I_s (eV), an energy that is already accounted for, as that of a
            pretrained network when its E0 are fitted to new data; zero by default.

    Raises:
        ValueError: no structure has an energy, or `interaction_energies` has another length or is
            not finite.
    """
    fit = _Compositions(structures, _interactions(structures, interaction_energies))
    if not fit.n_structures:
        raise ValueError(
            "reference energies cannot be fitted: no structure has an energy; "
            "give the energy of each element instead"
        )
    deviations, rank = fit.solve()
    values = {int(z): fit.mean + float(d) for z, d in zip(fit.elements, deviations, strict=True)}
    return ReferenceEnergies(values, _describe_fit(fit, rank))


def energies_per_atom(
    structures: Chunked, reference: Mapping[int, float]
) -> Float64[np.ndarray, "structures"]:
    """What remains of the energy of each structure without E0, eV per atom; NaN without a label."""
    rest = list(each_energy_per_atom(structures, reference))
    return np.concatenate(rest) if rest else np.empty(0)


def each_energy_per_atom(
    structures: Chunked, reference: Mapping[int, float]
) -> Iterator[Float64[np.ndarray, "chunk"]]:
    """The same, chunk by chunk."""
    table = np.full(LARGEST_ATOMIC_NUMBER + 1, np.nan)
    table[list(reference)] = list(reference.values())
    for chunk in structures.chunks():
        energies = table[chunk.atomic_numbers[chunk.atoms]]
        sums = np.add.reduceat(energies, chunk.first_atom[:-1] - chunk.first_atom[0])
        yield (chunk.energy - sums) / chunk.n_atoms


class _Compositions:
    """The least-squares problem of reference energies, gone through in chunks."""

    def __init__(self, structures: Chunked, interactions: Iterable[np.ndarray]) -> None:
        self.structures = structures
        self.interactions = list(interactions)
        self.elements = _labelled_elements(structures)
        total, n_atoms, self.n_structures = 0.0, 0, 0
        for counts, energies in self._counts():
            total, n_atoms = total + energies.sum(), n_atoms + int(counts.sum())
            self.n_structures += len(energies)
        self.mean = float(total / max(n_atoms, 1))

    def solve(self) -> tuple[Float64[np.ndarray, "elements"], int]:
        """Deviations of E0 from the mean energy per atom, and how many are determined."""
        solution, rank = self._least_squares(lambda sizes: np.ones_like(sizes))
        for _ in range(N_REWEIGHTINGS):
            deviation = self._deviation(solution)
            better, _ = self._least_squares(partial(_huber_weights, deviation), solution)
            if np.allclose(better, solution, rtol=0, atol=SMALLEST_ENERGY_SCALE):
                return better, rank
            solution = better
        return solution, rank

    def _least_squares(
        self,
        weigh: Callable[[np.ndarray], np.ndarray],
        solution: Float64[np.ndarray, "elements"] | None = None,
    ) -> tuple[Float64[np.ndarray, "elements"], int]:
        """Shortest solution and rank; a triangle takes in the chunks one by one (TSQR).

        Source: Demmel, Grigori, Hoemmen and Langou, SIAM J. Sci. Comput. 34, A206 (2012).
        """
        n = len(self.elements)
        triangle: np.ndarray = np.zeros((0, n + 1))
        for fractions, targets in self._rows():
            guess = np.zeros(n) if solution is None else solution
            root = np.sqrt(weigh(np.abs(targets - fractions @ guess)))
            rows = np.column_stack([fractions, targets]) * root[:, None]
            triangle = np.asarray(np.linalg.qr(np.vstack([triangle, rows]), mode="r"))
        found, _, rank, _ = np.linalg.lstsq(triangle[:, :n], triangle[:, n], rcond=UNDETERMINED)
        return found, int(rank)

    def _deviation(self, solution: Float64[np.ndarray, "elements"]) -> float:
        sizes = [
            np.abs(targets - fractions @ solution).astype(np.float32)  # of millions of structures
            for fractions, targets in self._rows()
        ]
        median = float(np.median(np.concatenate(sizes), overwrite_input=True))
        return max(MAD_TO_STANDARD_DEVIATION * median, SMALLEST_ENERGY_SCALE)

    def _rows(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for counts, energies in self._counts():
            n_atoms = counts.sum(axis=1)
            yield counts / n_atoms[:, None], energies / n_atoms - self.mean

    def _counts(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Atoms of each element, and the energy to be explained, of structures that have one."""
        n = len(self.elements)
        for chunk, interactions in zip_longest(self.structures.chunks(), self.interactions):
            labelled = chunk.labels & ENERGY > 0
            if not labelled.any():
                continue
            known = np.repeat(labelled, chunk.n_atoms)
            columns = np.searchsorted(self.elements, chunk.atomic_numbers[chunk.atoms][known])
            rows = np.repeat(np.arange(len(chunk)), chunk.n_atoms)[known]
            counts = np.bincount(rows * n + columns, minlength=len(chunk) * n).reshape(-1, n)
            energies = chunk.energy - (0.0 if interactions is None else interactions)
            yield counts[labelled], energies[labelled]


def _huber_weights(deviation: float, sizes: np.ndarray) -> np.ndarray:
    return np.minimum(1.0, HUBER_THRESHOLD * deviation / np.maximum(sizes, deviation))


def _interactions(
    structures: Chunked, given: Float64[np.ndarray, "structures"] | None
) -> list[Float64[np.ndarray, "chunk"]]:
    """The given energies, cut as the chunks of the structures are."""
    if given is None:
        return []
    ends = np.cumsum([len(chunk) for chunk in structures.chunks()])
    if given.shape != (int(ends[-1]),):
        raise ValueError(
            f"`interaction_energies` must have shape [{ends[-1]}], one per structure, "
            f"got {list(given.shape)}"
        )
    if not np.isfinite(given).all():
        raise ValueError("`interaction_energies` must be finite")
    return np.split(given, ends[:-1])


def _describe_fit(problem: _Compositions, rank: int) -> str:
    n_elements = len(problem.elements)
    fit = (
        f"robust least squares of {problem.n_structures} energies on the composition, "
        f"rank {rank} of {n_elements} elements"
    )
    if rank == n_elements:
        return fit
    return (
        f"{fit}; undetermined combinations stay at the mean energy per atom, {problem.mean:.6f} eV"
    )


def resolve_reference_energies(
    structures: Chunked, given: Mapping[str, float] | str | None = None
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


def _given_energies(structures: Chunked, given: Mapping[str, float]) -> ReferenceEnergies:
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


def _missing(structures: Chunked, values: Mapping[int, float]) -> list[str]:
    return [chemical_symbols[z] for z in elements_of(structures) if int(z) not in values]


def force_scales(structures: Chunked) -> dict[int, float]:
    """Scale of the force components of each element (eV/Å), by atomic number.

    The root mean square over the element's atoms and 100 further ones that have the root mean
    square of the whole set, so that an element with few atoms gets a sensible scale; at least
    0.01 eV/Å. Without any forces, every element gets the standard deviation of the energy per atom
    (eV) that remains after the fit of reference energies.

    Raises:
        ValueError: no structure has forces or an energy.
    """
    n_atoms, sums = np.zeros(LARGEST_ATOMIC_NUMBER + 1), np.zeros(LARGEST_ATOMIC_NUMBER + 1)
    for chunk in structures.chunks():
        labelled = np.repeat(chunk.labels & FORCES > 0, chunk.n_atoms)
        numbers = chunk.atomic_numbers[chunk.atoms][labelled]
        forces = chunk.forces[chunk.atoms][labelled].astype(np.float64)
        n_atoms += np.bincount(numbers, minlength=len(n_atoms))
        sums += np.bincount(numbers, weights=(forces**2).mean(axis=1), minlength=len(sums))
    elements = elements_of(structures)
    if not n_atoms.any():
        return dict.fromkeys(map(int, elements), _energy_scale(structures))
    mean = sums.sum() / n_atoms.sum()
    shrunk = (sums + PSEUDO_COUNT * mean) / (n_atoms + PSEUDO_COUNT)
    scales = np.maximum(np.sqrt(shrunk), SMALLEST_FORCE_SCALE)
    return {int(z): float(scales[z]) for z in elements}


def elements_of(structures: Chunked) -> Int64[np.ndarray, "elements"]:
    """Atomic numbers in the structures, ascending."""
    found = np.zeros(LARGEST_ATOMIC_NUMBER + 1, dtype=bool)
    for chunk in structures.chunks():
        found[chunk.atomic_numbers[chunk.atoms]] = True
    return np.flatnonzero(found)


def _labelled_elements(structures: Chunked) -> Int64[np.ndarray, "elements"]:
    """Atomic numbers in the structures that have an energy, ascending."""
    found = np.zeros(LARGEST_ATOMIC_NUMBER + 1, dtype=bool)
    for chunk in structures.chunks():
        known = np.repeat(chunk.labels & ENERGY > 0, chunk.n_atoms)
        found[chunk.atomic_numbers[chunk.atoms][known]] = True
    return np.flatnonzero(found)


def _energy_scale(structures: Chunked) -> float:
    reference = fit_reference_energies(structures).values
    return max(float(np.nanstd(energies_per_atom(structures, reference))), SMALLEST_FORCE_SCALE)
