"""The heads of a run: their data read once, described to every rank, held by their owners."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from gfm_models.checkpoint import file_sha256
from gfm_models.derivatives import predict_energy
from gfm_models.heads import HeadConfig, check_elements
from gfm_models.loss import LABEL_KINDS
from gfm_models.potential import MultiHeadPotential

from gfm_pretrain.config import RunConfig
from gfm_pretrain.data.batch import build_batch
from gfm_pretrain.data.extxyz import read_extxyz
from gfm_pretrain.data.labels import FoundLabel, LabelKeys, LabelTable
from gfm_pretrain.data.reference import (
    ReferenceEnergies,
    elements_of,
    fit_reference_energies,
    force_scales,
    isolated_atom_energies,
    resolve_reference_energies,
)
from gfm_pretrain.data.shard import ENERGY
from gfm_pretrain.data.size_statistics import SizeStatistics
from gfm_pretrain.data.store.manifest import MANIFEST, SPLITS
from gfm_pretrain.data.store.store import Store
from gfm_pretrain.data.structure import LabelledStructure
from gfm_pretrain.data.structure_set import Index, StructureSet, in_memory
from gfm_pretrain.evaluate import Metrics, baseline_sums, metrics
from gfm_pretrain.head_options import HeadOptions
from gfm_pretrain.process import World, gather_objects

N_FOR_REFERENCE = 200
"""Structures whose interaction energies an inherited head predicts to find reference energies."""
N_RUNS = 100
"""Runs of neighbouring structures of a file, some of which are set aside."""

Sets = Mapping[str, StructureSet]
"""Structures by split: those there are of train, valid and test."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadSummary:
    """What every rank knows of a head."""

    config: HeadConfig
    """What is published of it."""

    unit: float
    """Force scale of the whole head in eV/Å; the unit of its loss."""

    indices: Mapping[str, Index]
    """Index of each split there is."""

    statistics: SizeStatistics
    """Of the structures of the training set."""

    files: Mapping[str, Mapping[str, str]]
    """Path and SHA-256 of the file of each split; of a store, that of its manifest."""

    tables: Mapping[str, LabelTable]
    """Which labels were found in each split, under which keys."""

    baseline: Metrics
    """Errors on the test set (or, without one, the validation set) of predicting nothing."""


def read_heads(
    config: RunConfig,
    stores: Mapping[str, Store],
    *,
    cutoff: float,
    base: MultiHeadPotential | None,
    world: World,
) -> tuple[dict[str, HeadSummary], dict[str, Sets]]:
    """Share out the reading of all heads, and tell every rank what was found. Call on every rank.

    Args:
        config: Of the run.
        stores: Opened on this rank, by head; the other heads have files.
        cutoff: Å, of the backbone.
        base: The checkpoint's potential where heads inherit from it.
        world: All ranks.

    Returns:
        Summaries of all heads, in the order of the configuration; data of the heads this rank read
        or has a store of.
    """
    names = list(config.heads)
    mine, sets = {}, {name: store.splits for name, store in stores.items()}
    for name in names[world.rank :: world.size]:
        options = config.heads[name]
        summary, sets[name] = read_head(
            name, options, cutoff=cutoff, base=base, store=stores.get(name)
        )
        mine[name] = replace(summary, indices={}) if name in stores else summary
    everywhere: dict[str, HeadSummary] = {}
    for found in gather_objects(world, mine):
        everywhere.update(found)
    for name in stores:  # mapped, not sent: an index has 24 bytes for each structure
        everywhere[name] = replace(everywhere[name], indices=_indices(sets[name], cutoff))
    return {name: everywhere[name] for name in names}, sets


def read_head(
    name: str,
    options: HeadOptions,
    *,
    cutoff: float,
    base: MultiHeadPotential | None = None,
    store: Store | None = None,
) -> tuple[HeadSummary, Sets]:
    """Read a head's data, find its reference energies and scales, and index it.

    Args:
        name: Of the head.
        options: Its data and what they are.
        cutoff: Å, of the backbone.
        base: The checkpoint's potential where the head inherits one of its heads.
        store: Opened, where the head has one instead of files.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is broken or not labelled; a validation or test structure has an element
            that no training structure has.
    """
    sets, tables = _of_store(store) if store else _read_files(options, cutoff=cutoff)
    _check_labels(name, options, tables["train"])
    try:
        config, unit = _describe(options, sets["train"], store, base, cutoff=cutoff)
    except ValueError as error:
        raise ValueError(f"head '{name}': {error}") from error
    for split, structures in sets.items():
        _check_elements(config, structures, head=name, split=split)
    indices = _indices(sets, cutoff)
    judged = sets.get("test") or sets.get("valid")
    summary = HeadSummary(
        config=config,
        unit=unit,
        indices=indices,
        statistics=indices["train"].statistics,
        files={split: _file(options, split) for split in sets},
        tables=tables,
        baseline=metrics(baseline_sums(judged, config)) if judged else {},
    )
    return summary, sets


def _indices(sets: Sets, cutoff: float) -> dict[str, Index]:
    return {split: structures.index(cutoff) for split, structures in sets.items()}


def _of_store(store: Store) -> tuple[Sets, dict[str, LabelTable]]:
    """The structures of a store, and the labels its manifest counts."""
    tables = {}
    for split, facts in store.manifest.splits.items():
        counts = {"energy": facts.n_energies, "forces": facts.n_forces, "stress": facts.n_stresses}
        found = {
            label: FoundLabel(label=label, key="store" if n else None, n_structures=n, ignored=())
            for label, n in counts.items()
        }
        tables[split] = LabelTable(path=store.folder, n_structures=facts.n_structures, **found)
    if "train" not in tables:
        raise ValueError(f"{store.folder} has no training structures; import the source again")
    return store.splits, tables


def _read_files(options: HeadOptions, *, cutoff: float) -> tuple[Sets, dict[str, LabelTable]]:
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
    sets = {split: in_memory(found, cutoff=cutoff) for split, found in structures.items()}
    return sets, tables


def _set_aside(
    structures: list[LabelledStructure], options: HeadOptions
) -> tuple[list[LabelledStructure], list[LabelledStructure]]:
    """Train and validation structures of one file, chosen at random but always the same way.

    Runs of neighbours are set aside, not single structures: in a trajectory the next one is almost
    the same. Isolated atoms stay: reference energies are looked for in the training set.
    """
    n_valid = max(1, round(options.valid_fraction * len(structures)))
    movable = [i for i, structure in enumerate(structures) if structure.n_atoms > 1]
    if n_valid >= len(movable):
        raise ValueError(
            f"{options.train} has {len(structures)} structures, too few to set aside "
            f"valid_fraction = {options.valid_fraction} of them; give a file with `valid`"
        )
    runs = np.array_split(movable, min(N_RUNS, len(movable)))
    order = np.random.default_rng(0).permutation(len(runs))
    valid = np.sort(np.concatenate([runs[i] for i in order])[:n_valid])
    train = np.setdiff1d(np.arange(len(structures)), valid)
    return [structures[i] for i in train], [structures[i] for i in valid]


def _check_labels(name: str, options: HeadOptions, table: LabelTable) -> None:
    for label in options.labels:
        if not getattr(table, label).n_structures:
            ignored = ", ".join(getattr(table, label).ignored) or "none that could be meant"
            rest = [other for other in options.labels if other != label]
            way = "import it again with its key" if options.store else f"name it with {label}_key"
            raise ValueError(
                f"head '{name}': no structure in {table.path} has a label '{label}' (other "
                f"keys: {ignored}); {way}, or say labels: {rest} if there is none"
            )


def data_file(options: HeadOptions, split: str) -> Path | None:
    """The file that a split is in, if it is in one; of a store, its manifest."""
    if options.store is not None:
        return Path(options.store) / MANIFEST
    set_aside = options.train if split == "valid" and options.valid_fraction else None
    path = getattr(options, split) or set_aside
    return None if path is None else Path(path)


def _file(options: HeadOptions, split: str) -> dict[str, str]:
    path = data_file(options, split)
    assert path is not None
    return {"path": str(path), "sha256": file_sha256(path)}


def _describe(
    options: HeadOptions,
    train: StructureSet,
    store: Store | None,
    base: MultiHeadPotential | None,
    *,
    cutoff: float,
) -> tuple[HeadConfig, float]:
    scales = force_scales(train) if store is None else _by_number(store.manifest.scales)
    unit = float(np.sqrt(np.mean(np.square(list(scales.values())))))
    old = None if base is None or options.inherit is None else base.head(options.inherit).config
    if base is not None and old is not None:
        reference = _inherited_reference(options, train, base, cutoff=cutoff)
        scales |= {z: s for z, s in _by_number(old.scales).items() if z in scales}
    else:
        reference = _own_reference(options, train, store)
    manifest = store.manifest if store else None
    config = HeadConfig(
        level_of_theory=options.level_of_theory or (manifest.level_of_theory if manifest else ""),
        reference_energies=_by_symbol(_of_elements(scales, reference)),
        reference_origin=reference.origin,
        scales=_by_symbol(scales),
        description=options.description or (manifest.description if manifest else ""),
        source=options.source or (manifest.source if manifest else ""),
        licence=options.licence or (manifest.licence if manifest else ""),
        citation=options.citation or (manifest.citation if manifest else ""),
        labels=_labels_of(train),
        width=old.width if old is not None else options.width,
    )
    return config, unit


def _own_reference(
    options: HeadOptions, train: StructureSet, store: Store | None
) -> ReferenceEnergies:
    """Reference energies of a store, unless the run asks for others; of files, as asked for."""
    if store is not None and options.reference_energies == "auto":
        manifest = store.manifest
        return ReferenceEnergies(_by_number(manifest.reference_energies), manifest.reference_origin)
    return resolve_reference_energies(train, options.reference_energies)


def _inherited_reference(
    options: HeadOptions, train: StructureSet, base: MultiHeadPotential, *, cutoff: float
) -> ReferenceEnergies:
    """Reference energies that make the inherited head right on average, unless they are given."""
    assert options.inherit is not None
    choice = options.reference_energies
    elements = set(elements_of(train).tolist())
    if choice != "auto" or elements <= isolated_atom_energies(train).keys():
        return resolve_reference_energies(train, choice)
    old = base.head(options.inherit).config.reference_energies
    labelled = np.concatenate([chunk.labels & ENERGY > 0 for chunk in train.chunks()]).nonzero()[0]
    if not {chemical_symbols[z] for z in elements}.issubset(old):
        return fit_reference_energies(train)
    sample = labelled[:: max(1, len(labelled) // N_FOR_REFERENCE)]
    known = in_memory(list(train.structures(sample)), cutoff=cutoff)
    predicted = _total_energies(known, base, options.inherit, cutoff=cutoff)
    found = fit_reference_energies(known, interaction_energies=predicted)
    values = {z: change + old[chemical_symbols[z]] for z, change in found.values.items()}
    return ReferenceEnergies(
        values,
        f"those of head '{options.inherit}', changed by what it does not explain: {found.origin}",
    )


def _total_energies(
    structures: StructureSet, potential: MultiHeadPotential, head: str, *, cutoff: float
) -> np.ndarray:
    device = next(potential.parameters()).device
    with torch.no_grad():
        energies = [
            predict_energy(
                potential,
                build_batch(structures.read(np.array([i])), cutoff=cutoff, device=device)[0],
                head,
            )
            for i in range(len(structures))
        ]
    return torch.cat(energies).cpu().numpy()


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


def _by_number(table: Mapping[str, float]) -> dict[int, float]:
    return {atomic_numbers[symbol]: value for symbol, value in table.items()}


def _labels_of(structures: StructureSet) -> tuple[str, ...]:
    bits = 0
    for chunk in structures.chunks():
        bits |= int(np.bitwise_or.reduce(chunk.labels))
    return tuple(kind for bit, kind in enumerate(LABEL_KINDS) if bits >> bit & 1)


def _check_elements(config: HeadConfig, structures: StructureSet, *, head: str, split: str) -> None:
    try:
        check_elements(config, elements_of(structures), head=head)
    except ValueError as error:
        place = _first_with_other_elements(config, structures)
        raise ValueError(
            f"{structures.identifier(place)} in the {split} set: {error}, the elements of its "
            "training set"
        ) from None


def _first_with_other_elements(config: HeadConfig, structures: StructureSet) -> int:
    known = [atomic_numbers[symbol] for symbol in config.elements]
    place = 0
    for chunk in structures.chunks():
        for row, n_before in enumerate(chunk.first_atom[:-1]):
            numbers = chunk.atomic_numbers[n_before : chunk.first_atom[row + 1]]
            if not np.isin(numbers, known).all():
                return place + row
        place += len(chunk)
    raise AssertionError("every structure has known elements")
