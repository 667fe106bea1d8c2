"""From the parts of an import to a store: duplicates, splits, shards, reference energies, page."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from gfm_models.checkpoint import file_sha256
from jaxtyping import Float64

from gfm_pretrain.data.audit.checks import EDGE_RADII
from gfm_pretrain.data.audit.page import write_page
from gfm_pretrain.data.audit.report import Audit
from gfm_pretrain.data.reference import (
    MAD_TO_STANDARD_DEVIATION,
    ReferenceEnergies,
    elements_of,
    energies_per_atom,
    force_scales,
    resolve_reference_energies,
)
from gfm_pretrain.data.shard import ENERGY, FORCES, STRESS, Shard
from gfm_pretrain.data.store.columns import is_absent, write_shard
from gfm_pretrain.data.store.job import JOB, PARTS, Job
from gfm_pretrain.data.store.manifest import (
    MANIFEST,
    SPLITS,
    UNITS,
    FileFacts,
    Manifest,
    ShardFacts,
    SplitFacts,
    read_manifest,
    write_manifest,
)
from gfm_pretrain.data.store.parts import read_part
from gfm_pretrain.data.store.rows import (
    Rows,
    Splits,
    describe_splits,
    divide,
    gather_rows,
    note,
    note_duplicates,
    note_leaks,
)
from gfm_pretrain.data.store.store import open_split
from gfm_pretrain.data.structure_set import StructureSet
from gfm_pretrain.durable import publish_folder, read_sealed, write_sealed

AUDIT = "audit.json"
PAGE = "audit.html"
MOST_ATOMS_IN_SHARD = 8_000_000
"""Atoms after which a new shard is begun: 200 MB."""
OUTLIER = 20.0
"""Robust standard deviations of the energy per atom without E0 that make an energy suspicious."""
SMALLEST_OUTLIER = 1.0
"""eV/atom; what remains of an energy without E0 may always be that large."""

Sets = Mapping[str, StructureSet]


def finish_import(folder: Path, job: Job, *, out: Path) -> tuple[Manifest, Audit]:
    """Make the store out of all parts and show it under its name.

    Args:
        folder: The unfinished store, all its parts written.
        job: What was imported.
        out: Where the store will be.

    Raises:
        ValueError: nothing was kept, or there are too few groups to divide.
    """
    if not (folder / MANIFEST).exists():  # else it was ended while it removed the parts
        _make_store(folder, job, name=out.name)
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    publish_folder(folder, out)
    (out / JOB).unlink()
    return read_manifest(out), read_audit(out)


def read_audit(folder: Path) -> Audit:
    """What was found when a store was imported.

    Raises:
        ValueError: the file is damaged.
    """
    return Audit.from_mapping(read_sealed(folder / AUDIT))


def _make_store(folder: Path, job: Job, *, name: str) -> None:
    parts = sorted(path for path in (folder / PARTS).iterdir() if not path.suffix)
    audit = Audit()
    for part in parts:
        audit.merge(Audit.from_mapping(read_part(part)["audit"]))
    rows = gather_rows(parts)
    note_duplicates(rows, policy=job.policy, audit=audit)
    note_leaks(rows, policy=job.policy, audit=audit)
    written, reference = _write(folder, rows, job, audit)
    manifest = _describe(folder, job, written, reference)
    manifest = replace(
        manifest,
        split_origin=describe_splits(rows, job.asked.fractions),
        refused=dict(audit.refused),
    )
    write_sealed(folder / AUDIT, audit.to_mapping())
    title = f"{manifest.source}: {name}"
    write_page(audit, folder / PAGE, title=title, facts=facts_of(manifest))
    write_manifest(folder, replace(manifest, files=_hash_files(folder)))


def facts_of(manifest: Manifest) -> dict[str, str]:
    """What a store says of itself, in words for a table."""
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


def _write(
    folder: Path, rows: Rows, job: Job, audit: Audit
) -> tuple[dict[str, SplitFacts], ReferenceEnergies]:
    """Write the shards, and again without energies that turn out to be refused as outliers."""
    while True:
        splits = divide(rows, job.asked.fractions, policy=job.policy, audit=audit)
        written = _write_splits(folder, rows, splits)
        sets = _open(folder, written)
        reference = _reference(sets["train"], job)
        energies = _energies(rows, splits, sets, reference)
        n_kept = np.count_nonzero(rows.kept)
        reason = "its energy per atom without E0 is far from all others"
        outliers = _outliers(energies)
        note(rows, outliers, "energy_outlier", reason, policy=job.policy, audit=audit)
        if np.count_nonzero(rows.kept) == n_kept:
            audit.add_energies(energies[rows.kept], reference.values)
            return written, reference


def _write_splits(folder: Path, rows: Rows, splits: Splits) -> dict[str, SplitFacts]:
    written = {}
    for number, name in enumerate(SPLITS):
        shutil.rmtree(folder / name, ignore_errors=True)
        chunks = rows.selection(splits == number).chunks()
        shards = {}
        for shard, run in groupby(chunks, key=_shard_numbers()):
            place = f"{name}/{shard:05d}"
            shards[place] = write_shard(folder / place, run)
            _drop_absent(folder / place)
        if shards:
            written[name] = _split_facts(folder, shards)
    return written


def _shard_numbers() -> Callable[[Shard], int]:
    """Numbers chunks that follow each other by the shard they belong to."""
    n_atoms = 0

    def number(chunk: Shard) -> int:
        nonlocal n_atoms
        before, n_atoms = n_atoms, n_atoms + int(chunk.n_atoms.sum())
        return before // MOST_ATOMS_IN_SHARD

    return number


def _drop_absent(folder: Path) -> None:
    for path in folder.iterdir():
        if is_absent(path):
            path.unlink()


def _split_facts(folder: Path, shards: dict[str, ShardFacts]) -> SplitFacts:
    structures = open_split(folder, shards, radii=EDGE_RADII, present=Path.exists)
    labelled = np.zeros(3, dtype=np.int64)
    for chunk in structures.chunks():
        labelled += [np.count_nonzero(chunk.labels & bit) for bit in (ENERGY, FORCES, STRESS)]
    return SplitFacts(
        shards=shards,
        n_energies=int(labelled[0]),
        n_forces=int(labelled[1]),
        n_stresses=int(labelled[2]),
        elements=tuple(chemical_symbols[z] for z in elements_of(structures)),
    )


def _open(folder: Path, written: Mapping[str, SplitFacts]) -> Sets:
    return {
        name: open_split(folder, facts.shards, radii=EDGE_RADII, present=Path.exists)
        for name, facts in written.items()
    }


def _reference(train: StructureSet, job: Job) -> ReferenceEnergies:
    if any((chunk.labels & ENERGY).any() for chunk in train.chunks()):
        return resolve_reference_energies(train, job.asked.reference_energies)
    return ReferenceEnergies({}, "no training structure has an energy")


def _energies(
    rows: Rows, splits: Splits, sets: Sets, reference: ReferenceEnergies
) -> Float64[np.ndarray, " structures"]:
    """Energy per atom without E0 of every row, eV; NaN where there is none."""
    energies = np.full(len(splits), np.nan)
    for number, name in enumerate(SPLITS):
        if name in sets:
            found = energies_per_atom(sets[name], reference.values)
            energies[rows.kept & (splits == number)] = found
    return energies


def _outliers(energies: Float64[np.ndarray, " structures"]) -> np.ndarray:
    known = energies[np.isfinite(energies)]
    if not len(known):
        return np.zeros(len(energies), dtype=np.bool_)
    away = np.abs(energies - np.median(known))
    deviation = MAD_TO_STANDARD_DEVIATION * np.median(away[np.isfinite(away)])
    return away > max(OUTLIER * deviation, SMALLEST_OUTLIER)  # NaN is not


def _describe(
    folder: Path, job: Job, written: dict[str, SplitFacts], reference: ReferenceEnergies
) -> Manifest:
    facts, asked = job.source.facts(job.options), job.asked
    scales = force_scales(_open(folder, written)["train"])
    return Manifest(
        code_version=job.code_version,
        source=job.source.name,
        source_options=job.options,
        source_files={Path(name).name: size for name, size in job.bytes.items()},
        keys=dict(job.source.keys),
        units=UNITS,
        level_of_theory=asked.level_of_theory or facts.level_of_theory,
        description=asked.description or facts.description,
        licence=asked.licence or facts.licence,
        citation=asked.citation or facts.citation,
        split_origin="",
        splits=written,
        radii=EDGE_RADII,
        reference_energies=_by_symbol(reference.values),
        reference_origin=reference.origin,
        scales=_by_symbol(scales),
        force_scale=float(np.sqrt(np.mean(np.square(list(scales.values()))))),
        refused={},
        files={},
    )


def _hash_files(folder: Path) -> dict[str, FileFacts]:
    return {
        path.relative_to(folder).as_posix(): FileFacts(
            bytes=path.stat().st_size, sha256=file_sha256(path)
        )
        for path in _files_of_store(folder)
    }


def _files_of_store(folder: Path) -> Iterator[Path]:
    yield from (folder / AUDIT, folder / PAGE)
    for split in SPLITS:
        yield from sorted((folder / split).rglob("*.npy"))


def _by_symbol(table: Mapping[int, float]) -> dict[str, float]:
    return {chemical_symbols[z]: value for z, value in sorted(table.items())}
