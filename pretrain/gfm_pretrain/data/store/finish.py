"""From the parts of an import to a store: duplicates, splits, shards, reference energies, page."""

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from gfm_models.checkpoint import file_sha256
from jaxtyping import Float32

from gfm_pretrain.data.audit.checks import EDGE_RADII
from gfm_pretrain.data.audit.page import write_page
from gfm_pretrain.data.audit.report import Audit
from gfm_pretrain.data.reference import (
    MAD_TO_STANDARD_DEVIATION,
    ReferenceEnergies,
    each_energy_per_atom,
    force_scales,
    resolve_reference_energies,
)
from gfm_pretrain.data.shard import ENERGY
from gfm_pretrain.data.store.job import JOB, LOCK, PARTS, Job
from gfm_pretrain.data.store.manifest import (
    MANIFEST,
    SPLITS,
    UNITS,
    FileFacts,
    Manifest,
    SplitFacts,
    describe_store,
    read_manifest,
    write_manifest,
)
from gfm_pretrain.data.store.parts import read_part
from gfm_pretrain.data.store.rows import (
    Chosen,
    Rows,
    Splits,
    describe_splits,
    divide,
    gather_rows,
    note,
    note_duplicates,
    note_leaks,
)
from gfm_pretrain.data.store.split_folders import open_written, write_splits
from gfm_pretrain.data.structure_set import StructureSet
from gfm_pretrain.durable import publish_folder, read_sealed, write_sealed

AUDIT = "audit.json"
PAGE = "audit.html"
OUTLIER = 20.0
"""Robust standard deviations of the energy per atom without E0 that make an energy suspicious."""
SMALLEST_OUTLIER = 1.0
"""eV/atom; what remains of an energy without E0 may always be that large."""

Energies = Float32[np.ndarray, " structures"]
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
    (folder / LOCK).unlink(missing_ok=True)
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
    _check_not_empty(audit)
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
    write_page(audit, folder / PAGE, title=title, facts=describe_store(manifest))
    write_manifest(folder, replace(manifest, files=_hash_files(folder)))


def _check_not_empty(audit: Audit) -> None:
    if not audit.n_structures:
        found = "; ".join(
            f"{tally.count:,} {kind}, such as {tally.examples[0][0]}: {tally.examples[0][1]}"
            for kind, _, tally in audit.findings()
        )
        raise ValueError(f"no structure could be used: {found or 'the files hold none'}")


def _write(
    folder: Path, rows: Rows, job: Job, audit: Audit
) -> tuple[dict[str, SplitFacts], ReferenceEnergies]:
    """Write the shards, and again without energies that turn out to be refused as outliers."""
    while True:
        splits = divide(rows, job.asked.fractions, policy=job.policy, audit=audit)
        written = write_splits(folder, rows, splits)
        sets = open_written(folder, written)
        reference = _reference(sets["train"], job)
        energies = _energies(sets, reference)
        n_kept = np.count_nonzero(rows.kept)
        reason = "its energy per atom without E0 is far from all others"
        outliers = _find_outliers(energies, splits, kept=rows.kept)
        note(rows, outliers, "energy_outlier", reason, policy=job.policy, audit=audit)
        if np.count_nonzero(rows.kept) == n_kept:
            for found in energies.values():
                audit.add_energies(found, reference.values)
            return written, reference


def _reference(train: StructureSet, job: Job) -> ReferenceEnergies:
    if any((chunk.labels & ENERGY).any() for chunk in train.chunks()):
        return resolve_reference_energies(train, job.asked.reference_energies)
    return ReferenceEnergies({}, "no training structure has an energy")


def _energies(sets: Sets, reference: ReferenceEnergies) -> dict[str, Energies]:
    """Energy per atom without E0 of every structure, eV; NaN where there is none."""
    found = {}
    for name, structures in sets.items():
        found[name] = np.empty(len(structures), dtype=np.float32)
        start = 0
        for chunk in each_energy_per_atom(structures, reference.values):
            found[name][start : start + len(chunk)] = chunk
            start += len(chunk)
    return found


def _find_outliers(energies: Mapping[str, Energies], splits: Splits, *, kept: Chosen) -> Chosen:
    outliers = np.zeros(len(splits), dtype=np.bool_)
    known = np.concatenate(list(energies.values()))
    known = known[np.isfinite(known)]
    if not len(known):
        return outliers
    centre = np.median(known, overwrite_input=True)
    deviation = np.median(np.abs(known - centre), overwrite_input=True)
    limit = max(OUTLIER * MAD_TO_STANDARD_DEVIATION * deviation, SMALLEST_OUTLIER)
    for name, found in energies.items():
        here = kept & (splits == SPLITS.index(name))
        outliers[here] = np.abs(found - centre) > limit  # NaN is not
    return outliers


def _describe(
    folder: Path, job: Job, written: dict[str, SplitFacts], reference: ReferenceEnergies
) -> Manifest:
    facts, asked = job.source.facts(job.options), job.asked
    scales = force_scales(open_written(folder, written)["train"])
    return Manifest(
        code_version=job.code_version,
        source=job.source.name,
        source_options=job.options,
        source_files=_names_below_common_folder(job.bytes),
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


def _names_below_common_folder(sizes: Mapping[str, int]) -> dict[str, int]:
    """Sizes by names that do not tell where on a machine the files were."""
    paths = {Path(name).resolve(): size for name, size in sizes.items()}
    common = Path(os.path.commonpath([path.parent for path in paths]))
    return {path.relative_to(common).as_posix(): size for path, size in paths.items()}


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
