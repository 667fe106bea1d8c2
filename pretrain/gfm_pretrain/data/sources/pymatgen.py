"""Pymatgen's structure dictionaries, and the labels of VASP that are published beside them."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from ase import units
from ase.data import atomic_numbers as number_of_symbol
from jaxtyping import Bool, Float64, Int64

KILOBAR = 0.1 * units.GPa
"""eV/Å^3."""
LARGEST_VACANCY = 1e-8
"""Difference of an occupancy from 1 that is rounding; pymatgen's own tolerance."""
ISOTOPES = {"D": 1, "T": 1}
"""Names of elements besides the chemical symbols; to the electrons an isotope is no other atom."""

_SPECIES = re.compile(r"([A-Z][a-z]?)(?:[\d.]*[+-])?(?:,.*)?")
"""A symbol, and after it an oxidation state (`Fe3+`, `Fe2.67+`) or a spin (`Fe3+,spin=5`)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PymatgenStructure:
    """What a structure dictionary says."""

    atomic_numbers: Int64[np.ndarray, " atoms"]
    """1 to 118."""
    positions: Float64[np.ndarray, "atoms 3"]
    """Å, Cartesian."""
    cell: Float64[np.ndarray, "3 3"]
    """Å; rows are lattice vectors."""
    pbc: Bool[np.ndarray, "3"]
    """Whether the structure repeats along each lattice vector; it does where nothing is said."""
    site_properties: tuple[Mapping[str, Any], ...]
    """The `properties` of each site."""

    def site_property(self, name: str) -> list[Any] | None:
        """One property of all sites; None where it was not computed.

        Raises:
            ValueError: only some sites have it.
        """
        values = [properties.get(name) for properties in self.site_properties]
        n_missing = sum(value is None for value in values)
        if n_missing == len(values):
            return None
        if n_missing:
            raise ValueError(f"{n_missing} of {len(values)} sites have no property '{name}'")
        return values


def read_structure(structure: object) -> PymatgenStructure:
    """Read a structure dictionary, as `Structure.as_dict` writes it.

    Fractional coordinates are taken before Cartesian ones, as pymatgen does.

    Raises:
        ValueError: something is missing or of another shape, a site is disordered, or an element
            is unknown.
    """
    lattice = member(structure, "lattice", of="structure")
    sites = member(structure, "sites", of="structure")
    if not isinstance(sites, list) or not sites:
        raise ValueError("`sites` must be a list with at least one site")
    cell = to_array(member(lattice, "matrix", of="lattice"), (3, 3), name="lattice.matrix")
    return PymatgenStructure(
        atomic_numbers=np.array([_read_element(site) for site in sites], dtype=np.int64),
        positions=_read_positions(sites, cell),
        cell=cell,
        pbc=_read_pbc(lattice),
        site_properties=tuple(_read_properties(site) for site in sites),
    )


def to_energy(value: object) -> float | None:
    """An energy in its own unit; None where there is none, which some files write as NaN.

    Raises:
        ValueError: it is not a number.
    """
    if value is None:
        return None
    energy = float(to_array(value, (), name="energy"))
    return None if math.isnan(energy) else energy


def to_forces(values: object, *, n_atoms: int) -> Float64[np.ndarray, "atoms 3"] | None:
    """Forces in their own unit; None where there are none.

    Raises:
        ValueError: they are not three numbers for each atom.
    """
    return None if values is None else to_array(values, (n_atoms, 3), name="forces")


def to_stress(values: object) -> Float64[np.ndarray, "3 3"] | None:
    """A stress in eV/Å^3, positive = tension, from VASP's in kB, positive = compression.

    Raises:
        ValueError: it is not a matrix; the order of six components is not the same everywhere.
    """
    return None if values is None else -KILOBAR * to_array(values, (3, 3), name="stress")


def to_array(values: object, shape: tuple[int, ...], *, name: str) -> Float64[np.ndarray, "..."]:
    """An array from nested lists.

    Raises:
        ValueError: they are not numbers, or of another shape; the message has the name.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must be numbers in shape {list(shape)}: {error}") from error
    if array.shape != shape:
        raise ValueError(f"`{name}` must have shape {list(shape)}, got {list(array.shape)}")
    return array


def member(mapping: object, key: str, *, of: str) -> Any:
    """The value under a key.

    Raises:
        ValueError: there is none; the message says of what.
    """
    if not isinstance(mapping, Mapping):
        raise ValueError(f"the {of} must be an object with `{key}`, got {type(mapping).__name__}")
    if key not in mapping:
        raise ValueError(f"the {of} has no `{key}`")
    return mapping[key]


def _read_element(site: object) -> int:
    species = member(site, "species", of="site")
    if not isinstance(species, list) or len(species) != 1:
        raise ValueError(f"a site must be occupied by one species, got {species}")
    [kind] = species
    occupancy = member(kind, "occu", of="species")
    if not (isinstance(occupancy, int | float) and abs(occupancy - 1.0) <= LARGEST_VACANCY):
        raise ValueError(f"a site must be fully occupied, got {occupancy} of {kind.get('element')}")
    return _atomic_number(str(member(kind, "element", of="species")))


@cache
def _atomic_number(species: str) -> int:
    match = _SPECIES.fullmatch(species)
    symbol = match[1] if match else species
    number = number_of_symbol.get(symbol, 0) or ISOTOPES.get(symbol, 0)
    if number == 0:  # also ASE's number of X, which stands for no element
        raise ValueError(f"'{species}' is no chemical element")
    return number


def _read_positions(
    sites: list[Any], cell: Float64[np.ndarray, "3 3"]
) -> Float64[np.ndarray, "atoms 3"]:
    key = "abc" if "abc" in sites[0] else "xyz"
    rows = [member(site, key, of="site") for site in sites]
    coordinates = to_array(rows, (len(sites), 3), name=f"sites.{key}")
    return coordinates @ cell if key == "abc" else coordinates


def _read_pbc(lattice: Mapping[str, Any]) -> Bool[np.ndarray, "3"]:
    return to_array(lattice.get("pbc", (True, True, True)), (3,), name="lattice.pbc").astype(bool)


def _read_properties(site: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = site.get("properties") or {}
    if not isinstance(properties, Mapping):
        raise ValueError(f"`properties` of a site must be an object, got {properties}")
    return properties
