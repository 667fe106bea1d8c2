"""The heads of a run: their files read once, described to every rank, held by their owners."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ase.data import chemical_symbols
from gfm_models.checkpoint import file_sha256
from gfm_models.derivatives import predict_energy
from gfm_models.heads import HeadConfig, check_elements
from gfm_models.loss import LABEL_KINDS
from gfm_models.potential import MultiHeadPotential

from gfm_pretrain.config import HeadOptions, RunConfig
from gfm_pretrain.data.extxyz import LabelKeys, LabelTable, read_extxyz
from gfm_pretrain.data.reference import (
    ReferenceEnergies,
    fit_reference_energies,
    force_scales,
    isolated_atom_energies,
    resolve_reference_energies,
)
from gfm_pretrain.data.split import Index, Split, build_batch, build_split
from gfm_pretrain.data.structure import LabelledStructure
from gfm_pretrain.evaluate import Metrics, baseline_sums, metrics
from gfm_pretrain.process import World, gather_objects

SPLITS = ("train", "valid", "test")
N_FOR_REFERENCE = 200
"""Structures whose interaction energies an inherited head predicts to find reference energies."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadSummary:
    """What every rank knows of a head."""

    config: HeadConfig
    """What is published of it."""

    unit: float
    """Force scale of the whole head in eV/Å; the unit of its loss."""

    indices: Mapping[str, Index]
    """Index of each split there is."""

    files: Mapping[str, Mapping[str, str]]
    """Path and SHA-256 of the file of each split."""

    tables: Mapping[str, LabelTable]
    """Which labels were found in each file, under which keys."""

    baseline: Metrics
    """Errors on the test set (or, without one, the validation set) of predicting nothing."""

    @property
    def step_cost(self) -> float:
        """Mean cost of a structure of the training set."""
        return float(self.indices["train"].costs.mean())


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadData:
    """A head's structures, on a rank that holds them."""

    splits: Mapping[str, Split]


def read_heads(
    config: RunConfig, *, cutoff: float, base: MultiHeadPotential | None, world: World
) -> tuple[dict[str, HeadSummary], dict[str, HeadData]]:
    """Share out the reading of all heads, and tell every rank what was found. Call on every rank.

    Returns:
        Summaries of all heads, in the order of the configuration; data of the heads this rank read.
    """
    names = list(config.heads)
    mine = {}
    for name in names[world.rank :: world.size]:
        mine[name] = read_head(name, config.heads[name], cutoff=cutoff, base=base)
    everywhere: dict[str, HeadSummary] = {}
    for found in gather_objects(world, {name: summary for name, (summary, _) in mine.items()}):
        everywhere.update(found)
    return {name: everywhere[name] for name in names}, {name: d for name, (_, d) in mine.items()}


def read_head(
    name: str, options: HeadOptions, *, cutoff: float, base: MultiHeadPotential | None = None
) -> tuple[HeadSummary, HeadData]:
    """Read a head's files, find its reference energies and scales, and index it.

    Args:
        name: Of the head.
        options: Its files and what they are.
        cutoff: Å, of the backbone.
        base: The checkpoint's potential where the head inherits one of its heads.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is broken or not labelled; a validation or test structure has an element
            that no training structure has.
    """
    structures, tables = _read_files(options)
    _check_labels(name, options, tables["train"])
    try:
        config, unit = _describe(options, structures["train"], base, cutoff=cutoff)
    except ValueError as error:
        raise ValueError(f"head '{name}': {error}") from error
    for split, of_split in structures.items():
        for structure in of_split:
            _check_elements(config, structure, head=name, split=split)
    splits = {split: build_split(found, cutoff=cutoff) for split, found in structures.items()}
    judged = structures.get("test") or structures.get("valid") or []
    summary = HeadSummary(
        config=config,
        unit=unit,
        indices={split: found.index for split, found in splits.items()},
        files={split: _file(options, split) for split in splits},
        tables=tables,
        baseline=metrics(baseline_sums(judged, config)),
    )
    return summary, HeadData(splits=splits)


def _read_files(
    options: HeadOptions,
) -> tuple[dict[str, list[LabelledStructure]], dict[str, LabelTable]]:
    keys = LabelKeys(
        energy=options.energy_key, forces=options.forces_key, stress=options.stress_key
    )
    structures, tables = {}, {}
    for split in SPLITS:
        path = getattr(options, split)
        if path is not None:
            structures[split], tables[split] = read_extxyz(Path(path), keys=keys)
    if options.valid_fraction:
        structures["train"], structures["valid"] = _set_aside(structures["train"], options)
    return structures, tables


def _set_aside(
    structures: list[LabelledStructure], options: HeadOptions
) -> tuple[list[LabelledStructure], list[LabelledStructure]]:
    """Train and validation structures of one file, chosen at random but always the same way.

    Isolated atoms stay: reference energies are looked for in the training set.
    """
    n_valid = max(1, round(options.valid_fraction * len(structures)))
    order = np.random.default_rng(0).permutation(len(structures))
    movable = [i for i in order if structures[i].n_atoms > 1]
    if n_valid >= len(movable):
        raise ValueError(
            f"{options.train} has {len(structures)} structures, too few to set aside "
            f"valid_fraction = {options.valid_fraction} of them; give a file with `valid`"
        )
    valid = np.sort(movable[:n_valid])
    train = np.setdiff1d(order, valid)
    return [structures[i] for i in train], [structures[i] for i in valid]


def _check_labels(name: str, options: HeadOptions, table: LabelTable) -> None:
    for label in options.labels:
        if not getattr(table, label).n_structures:
            ignored = ", ".join(getattr(table, label).ignored) or "none that could be meant"
            rest = [other for other in options.labels if other != label]
            raise ValueError(
                f"head '{name}': no structure in {options.train} has a label '{label}' (other "
                f"keys: {ignored}); name its key with {label}_key, or say labels: {rest} if there "
                "is none"
            )


def _file(options: HeadOptions, split: str) -> dict[str, str]:
    path = getattr(options, split) or options.train
    return {"path": path, "sha256": file_sha256(Path(path))}


def _describe(
    options: HeadOptions,
    train: list[LabelledStructure],
    base: MultiHeadPotential | None,
    *,
    cutoff: float,
) -> tuple[HeadConfig, float]:
    scales = force_scales(train)
    if options.inherit is None or base is None:
        reference = resolve_reference_energies(train, options.reference_energies)
    else:
        reference = _inherited_reference(options, train, base, cutoff=cutoff)
        scales |= _scales_of(base, options.inherit, scales)
    unit = float(torch.tensor(list(force_scales(train).values())).square().mean().sqrt())
    config = HeadConfig(
        level_of_theory=options.level_of_theory,
        reference_energies=_by_symbol(_of_elements(scales, reference)),
        reference_origin=reference.origin,
        scales=_by_symbol(scales),
        description=options.description,
        source=options.source,
        licence=options.licence,
        citation=options.citation,
        labels=_labels_of(train),
        width=base.head(options.inherit).config.width
        if base is not None and options.inherit is not None
        else options.width,
    )
    return config, unit


def _inherited_reference(
    options: HeadOptions,
    train: list[LabelledStructure],
    base: MultiHeadPotential,
    *,
    cutoff: float,
) -> ReferenceEnergies:
    """Reference energies that make the inherited head right on average, unless they are given."""
    assert options.inherit is not None
    choice = options.reference_energies
    elements = {z for s in train for z in s.atomic_numbers.tolist()}
    if choice != "auto" or elements <= isolated_atom_energies(train).keys():
        return resolve_reference_energies(train, choice)
    old = base.head(options.inherit).config.reference_energies
    labelled = [s for s in train if s.energy is not None]
    present = {chemical_symbols[z] for s in labelled for z in s.atomic_numbers.tolist()}
    if not present.issubset(old):
        return fit_reference_energies(labelled)
    sample = labelled[:: max(1, len(labelled) // N_FOR_REFERENCE)]
    predicted = _total_energies(sample, base, options.inherit, cutoff=cutoff)
    found = fit_reference_energies(sample, interaction_energies=predicted)
    values = {z: change + old[chemical_symbols[z]] for z, change in found.values.items()}
    return ReferenceEnergies(
        values,
        f"those of head '{options.inherit}', changed by what it does not explain: {found.origin}",
    )


def _total_energies(
    structures: list[LabelledStructure],
    potential: MultiHeadPotential,
    head: str,
    *,
    cutoff: float,
) -> np.ndarray:
    device = next(potential.parameters()).device
    with torch.no_grad():
        energies = [
            predict_energy(potential, build_batch([s], cutoff=cutoff, device=device)[0], head)
            for s in structures
        ]
    return torch.cat(energies).cpu().numpy()


def _scales_of(base: MultiHeadPotential, head: str, elements: Iterable[int]) -> dict[int, float]:
    scales = base.head(head).config.scales
    return {z: scales[chemical_symbols[z]] for z in elements if chemical_symbols[z] in scales}


def _of_elements(elements: Iterable[int], reference: ReferenceEnergies) -> dict[int, float]:
    """Reference energies of the elements in the data; others may have been given, too."""
    missing = [chemical_symbols[z] for z in elements if z not in reference.values]
    if missing:
        raise ValueError(
            f"no structure with {', '.join(missing)} has an energy that a reference energy could "
            "be fitted to; give reference_energies"
        )
    return {z: reference.values[z] for z in elements}


def _by_symbol(table: Mapping[int, float]) -> dict[str, float]:
    return {chemical_symbols[z]: value for z, value in sorted(table.items())}


def _labels_of(structures: list[LabelledStructure]) -> tuple[str, ...]:
    return tuple(
        kind for kind in LABEL_KINDS if any(getattr(s, kind) is not None for s in structures)
    )


def _check_elements(
    config: HeadConfig, structure: LabelledStructure, *, head: str, split: str
) -> None:
    try:
        check_elements(config, structure.atomic_numbers, head=head)
    except ValueError as error:
        raise ValueError(
            f"{structure.identifier} in the {split} set: {error}, the elements of its training set"
        ) from None
