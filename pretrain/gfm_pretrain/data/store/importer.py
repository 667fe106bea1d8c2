"""Import: published files in, a store out; side by side, and continued where it was interrupted."""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from gfm_pretrain.data.audit.checks import Finding, check, fingerprint, finiteness, measure
from gfm_pretrain.data.audit.report import Audit
from gfm_pretrain.data.sources.source import Block, Record, Refused
from gfm_pretrain.data.store.finish import finish_import
from gfm_pretrain.data.store.job import PARTS, ImportOptions, Job, begin, claimed, new_job
from gfm_pretrain.data.store.manifest import MANIFEST, SPLITS, Manifest
from gfm_pretrain.data.store.parts import Entry, PartWriter
from gfm_pretrain.data.store.progress import showing_progress, showing_work
from gfm_pretrain.data.store.side_by_side import run_side_by_side
from gfm_pretrain.data.store.splits import NONE, hash_of
from gfm_pretrain.data.structure import LabelledStructure, symmetric_stress
from gfm_pretrain.durable import UNFINISHED
from gfm_pretrain.process import World, barrier


def import_source(
    asked: ImportOptions, out: Path, *, world: World, processes: int = 1
) -> tuple[Manifest, Audit] | None:
    """Import a source. Call on every rank.

    Args:
        asked: What is imported, and how.
        out: Folder of the store; it appears when the store is complete.
        world: The ranks, which share the work.
        processes: Processes that share it where there is one rank only.

    Returns:
        Manifest and audit, on rank 0.

    Raises:
        FileNotFoundError: a file is missing.
        FileExistsError: `out` is there already.
        ValueError: an option is wrong, a file is damaged, a structure is over the budget, or
            another import into the same store is at work.
    """
    folder = out.with_name(out.name + UNFINISHED)
    job = new_job(asked)
    if out.exists():
        raise FileExistsError(f"{out} exists already; remove it, or choose another --out")
    with claimed(folder) if world.rank == 0 else nullcontext():
        if world.rank == 0:
            begin(folder, job)
        barrier(world)
        if not (folder / MANIFEST).exists():
            with showing_progress(folder / PARTS, job, speaks=world.rank == 0):
                _import_parts(folder, job, world=world, processes=processes)
        barrier(world)
        if world.rank > 0:
            return None
        with showing_work("duplicates, splits, shards, reference energies, audit"):
            return finish_import(folder, job, out=out)


def import_share(folder: Path, job: Job, rank: int, *, n_ranks: int) -> None:
    """Write this rank's share of the parts, except those that are there.

    Where there are many files each is read by one rank; else every rank goes through all files and
    reads its share of their blocks. The parts are the same in either way and for any `n_ranks`.
    """
    whole_files = len(job.asked.files) >= 2 * n_ranks
    for number, name in enumerate(job.asked.files):
        if whole_files and number % n_ranks != rank:
            continue
        blocks = iter(job.source.blocks(Path(name), job.options))
        for part, run in enumerate(_runs(blocks, job.source.blocks_per_part)):
            target = folder / PARTS / f"{number:05d}-{part:06d}"
            if (whole_files or part % n_ranks == rank) and not target.exists():
                _import_part(target, run, job)


def _import_parts(folder: Path, job: Job, *, world: World, processes: int) -> None:
    if world.size > 1 or processes == 1:
        import_share(folder, job, world.rank, n_ranks=world.size)
        return
    share = partial(import_share, folder, job, n_ranks=processes)
    run_side_by_side(share, processes)


def _runs(blocks: Iterator[Block], length: int) -> Iterator[list[Block]]:
    while run := list(islice(blocks, length)):
        yield run


def _import_part(target: Path, blocks: list[Block], job: Job) -> None:
    writer, audit = PartWriter(target), Audit()
    for block in blocks:
        for record in block.read():
            _import_record(record, writer, audit, job)
    facts = {"audit": audit.to_mapping(), "n_structures": audit.n_structures}
    writer.finish({**facts, "done": blocks[-1].done})


def _import_record(record: Record | Refused, writer: PartWriter, audit: Audit, job: Job) -> None:
    """Check one record, and keep it unless something is found that is to be left out."""
    if isinstance(record, Refused):
        finding = Finding(record.kind, record.identifier, record.reason)
        audit.note(finding, action=job.policy.action(record.kind))
        return
    if (finding := finiteness(record)) is not None:
        audit.note(finding, action="refuse")
        return
    try:
        structure = _to_structure(record)
        measures = measure(structure)
    except ValueError as error:
        audit.note(Finding("invalid", record.identifier, str(error)), action="refuse")
        return
    if _is_left_out(check(structure, measures, budget=job.asked.budget), audit, job):
        return
    audit.add(structure, measures)
    writer.add(
        Entry(
            structure=structure,
            n_edges=measures.n_edges,
            group=hash_of(record.group),
            split=NONE if record.split is None else SPLITS.index(record.split),
            fingerprint=fingerprint(structure),
        )
    )


def _is_left_out(findings: list[Finding], audit: Audit, job: Job) -> bool:
    """Put what was found into the audit; whether the structure is left out because of it.

    Raises:
        ValueError: something was found that must not be decided for the user.
    """
    refused = False
    for finding in findings:
        action = job.policy.action(finding.kind)
        if action == "stop":
            raise ValueError(finding.reason)
        audit.note(finding, action=action)
        refused |= action == "refuse"
    return refused


def _to_structure(record: Record) -> LabelledStructure:
    """A record in double precision, checked; a stress symmetric to rounding becomes so exactly.

    Raises:
        ValueError: saying what is wrong with it.
    """
    return LabelledStructure(
        atomic_numbers=np.asarray(record.atomic_numbers, dtype=np.int64),
        positions=np.asarray(record.positions, dtype=np.float64),
        cell=np.asarray(record.cell, dtype=np.float64),
        pbc=np.asarray(record.pbc, dtype=np.bool_),
        energy=None if record.energy is None else float(record.energy),
        forces=None if record.forces is None else np.asarray(record.forces, dtype=np.float64),
        stress=None if record.stress is None else symmetric_stress(np.asarray(record.stress)),
        identifier=record.identifier,
    )
