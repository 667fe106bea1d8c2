"""What a store says of itself: what its data are, where they came from, and what its files hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gfm_pretrain.configuration import from_mapping, to_mapping
from gfm_pretrain.durable import read_sealed, write_sealed

FORMAT = 1
"""Version of the layout; a change that older code would read wrongly raises it."""
MANIFEST = "manifest.json"
SPLITS = ("train", "valid", "test")
UNITS = {"length": "Å", "energy": "eV", "forces": "eV/Å", "stress": "eV/Å³, positive = tension"}


class StoreError(ValueError):
    """A store is damaged, or is none; the message names the file."""


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """One file of the store."""

    bytes: int
    """Its size."""
    sha256: str
    """Of its content."""


@dataclass(frozen=True, kw_only=True)
class ShardFacts:
    """One folder of columns."""

    n_structures: int
    """Number of structures."""
    n_atoms: int
    """Atoms of all of them."""
    n_letters: int
    """Letters of their identifiers."""


@dataclass(frozen=True, kw_only=True)
class SplitFacts:
    """The training, validation or test set."""

    shards: dict[str, ShardFacts]
    """By folder, in the order of the data."""
    n_energies: int
    """Structures that have an energy."""
    n_forces: int
    """Structures that have forces."""
    n_stresses: int
    """Structures that have a stress."""
    elements: tuple[str, ...]
    """Chemical symbols, by atomic number."""

    @property
    def n_structures(self) -> int:
        """Number of structures."""
        return sum(shard.n_structures for shard in self.shards.values())

    @property
    def n_atoms(self) -> int:
        """Number of atoms of all structures."""
        return sum(shard.n_atoms for shard in self.shards.values())


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A store."""

    format: int = FORMAT
    """Version of the layout."""
    code_version: str
    """Of this package, at import."""
    source: str
    """Name of the reader."""
    source_options: dict[str, str]
    """Choices that were made for it."""
    source_files: dict[str, int]
    """Files that were read, and their bytes."""
    keys: dict[str, str]
    """What was read: our name, and key and unit in the file."""
    units: dict[str, str]
    """Of the store."""
    level_of_theory: str
    """Such as `PBE/VASP`."""
    description: str
    """One sentence."""
    licence: str
    """Of the data."""
    citation: str
    """How they want to be cited."""
    split_origin: str
    """Where the splits come from, in words."""
    splits: dict[str, SplitFacts]
    """Those there are of train, valid and test."""
    radii: tuple[float, ...]
    """Å; the cost column `n_edges` holds the directed edges shorter than each of them."""
    reference_energies: dict[str, float]
    """E0 in eV by chemical symbol; empty where no structure has an energy."""
    reference_origin: str
    """Where they come from, in words."""
    scales: dict[str, float]
    """Scale of the force components of each element, eV/Å."""
    force_scale: float
    """Root mean square over the scales of the elements, the unit of a head's loss, eV/Å."""
    refused: dict[str, int]
    """Records that were left out, by kind; the audit has the details."""
    files: dict[str, FileFacts]
    """Every file of the store except this one."""


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, sealed with its own SHA-256."""
    write_sealed(folder / MANIFEST, to_mapping(manifest))


def read_manifest(folder: Path) -> Manifest:
    """Read `manifest.json`.

    Raises:
        StoreError: the folder is no store, the file is damaged, or a newer version wrote it.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise StoreError(
            f"{folder} is no store: it has no {MANIFEST}; make one with `gfm data import`"
        )
    try:
        facts = read_sealed(path)
        _check_format(path, facts)
        return from_mapping(Manifest, facts, origin=str(path))
    except ValueError as error:
        raise StoreError(str(error)) from error


def describe_store(manifest: Manifest) -> dict[str, str]:
    """What a store says of itself, in words for a table; some may be empty."""
    splits = (
        f"{name} {facts.n_structures:,} structures, {facts.n_atoms:,} atoms"
        for name, facts in manifest.splits.items()
    )
    elements = manifest.scales  # all that are trained on, which others may not go beyond
    options = ", ".join(
        f"{name} {value}" for name, value in manifest.source_options.items() if value
    )
    return {
        "source": manifest.source + (f" ({options})" if options else ""),
        "level of theory": manifest.level_of_theory,
        "description": manifest.description,
        "structures": "; ".join(splits),
        "splits": manifest.split_origin,
        "elements": " ".join(elements),
        "reference energies": manifest.reference_origin,
        "force scale": f"{manifest.force_scale:.4f} eV/Å",
        "licence": manifest.licence,
        "citation": manifest.citation,
        "files": ", ".join(manifest.source_files),
    }


def _check_format(path: Path, facts: Mapping) -> None:
    if facts.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {facts.get('format')}, this version of gfmcalc reads {FORMAT}; "
            "update gfmcalc, or import the source again"
        )
