"""Fine-tuning: a new head for a user's own data, trained by the engine that pretrains."""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase.data import chemical_symbols
from gfm_models import checkpoint
from gfm_models.derivatives import Prediction, predict
from gfm_models.graph import build_graph
from gfm_models.potential import MultiHeadPotential
from gfm_pretrain.config import RunConfig
from gfm_pretrain.data.extxyz import read_extxyz
from gfm_pretrain.data.labels import LabelKeys
from gfm_pretrain.data.reference import fit_reference_energies
from gfm_pretrain.data.store.store import is_store, open_store
from gfm_pretrain.data.structure import LabelledStructure
from gfm_pretrain.data.structure_set import in_memory
from gfm_pretrain.head_options import HeadOptions
from gfm_pretrain.process import World, barrier
from gfm_pretrain.report import error_table
from gfm_pretrain.snapshots.options import SnapshotOptions
from gfm_pretrain.table import text_table
from gfm_pretrain.train import pretrain
from gfm_pretrain.training_options import TrainingOptions

N_READ = 5000
"""Structures of a store among which some are looked for to compare heads on."""
N_COMPARED = 100
"""About how many structures heads are compared on."""

ReferenceChoice = dict[str, float] | Literal["auto", "isolated", "fit"]


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions:
    """What a fine-tuning is asked to do."""

    train: str
    """Extended XYZ file of the new data, or a store, which brings its own splits."""

    model: Path
    """Checkpoint folder to start from."""

    head: str
    """Name of the new head."""

    run: str
    """Folder of the run; the new checkpoint is its `checkpoint/`."""

    valid: str | None = None
    """File to validate on; without it, `valid_fraction` of the training file is set aside."""

    valid_fraction: float = 0.1
    """Part of the training file set aside."""

    test: str | None = None
    """File whose errors are reported."""

    inherit_head: str | None = None
    """Head the new one starts from; by default the one that predicts the new data best."""

    method: Literal["full", "heads"] = "full"
    """Train backbone and head, or the head alone."""

    reference_energies: ReferenceChoice = "auto"
    """E0: given; from isolated atoms; by least squares; or `auto`: from isolated atoms, else what
    the inherited head does not explain."""

    labels: tuple[Literal["energy", "forces", "stress"], ...] = ("energy", "forces")
    """Labels that the data must have."""

    energy_key: str | None = None
    forces_key: str | None = None
    stress_key: str | None = None
    """Keys of the labels where they are not found by themselves."""

    level_of_theory: str = ""
    """Of the new data, where they are no store."""

    epochs: int = 100
    """Passes over the training data."""

    batch_size: int = 8
    """Structures in every step."""

    learning_rate: float = 2e-3
    """Largest learning rate."""

    seed: int = 0
    """Of the order of the data."""

    dtype: Literal["float32", "float64"] = "float32"
    """Precision of the weights."""

    device: Literal["auto", "cpu", "cuda", "xpu"] = "auto"
    """Kind of device."""

    def __post_init__(self) -> None:
        """Check the numbers that the length of the run follows from.

        Raises:
            ValueError: naming the option.
        """
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def finetune(options: FinetuneOptions, world: World) -> tuple[Path, str]:
    """Add a head to a checkpoint. Call on every rank.

    Returns:
        Folder of the new checkpoint, and tables of errors before and after to be shown.

    Raises:
        FileNotFoundError: a file or the checkpoint is missing.
        ValueError: the head exists already, the head to inherit does not, or the data are broken.
    """
    config = checkpoint.read_config(options.model)
    _check_head(options, config)
    structures, n_train = _read(options)
    base = checkpoint.load(options.model)
    misfits = {name: head_misfit(base, name, structures) for name in base.head_names}
    inherited = options.inherit_head or _closest(misfits)
    folder = pretrain(_run_config(options, inherited, n_train=n_train), world)
    drift = head_drift(base, checkpoint.load(folder, heads=[options.head]), structures)
    barrier(world)
    if world.rank == 0:
        _add_old_heads(folder, options, drift)
    barrier(world)
    tables = [_misfit_table(misfits, inherited), _error_table(folder, options)]
    return folder, "\n\n".join([*tables, _drift_table(folder, drift)])


def head_misfit(
    potential: MultiHeadPotential, head: str, structures: Sequence[LabelledStructure]
) -> float:
    """How badly a head that never saw some data predicts them.

    Returns:
        Root-mean-square error of the forces in eV/Å; where there are none, of the energy per atom
        in eV, with reference energies refitted; infinite where it does not know all elements.
    """
    if not _knows(potential, head, structures):
        return math.inf
    errors = [
        _predict(potential, head, s).forces.numpy() - s.forces
        for s in _some([s for s in structures if s.forces is not None])
    ]
    if errors:
        return _root_mean_square(np.concatenate(errors))
    labelled = _some([s for s in structures if s.energy is not None])
    energies = np.array([_predict(potential, head, s).energy.item() for s in labelled])
    return _energy_misfit(labelled, energies, cutoff=potential.cutoff)


def _energy_misfit(
    structures: Sequence[LabelledStructure], energies: np.ndarray, *, cutoff: float
) -> float:
    known = in_memory(structures, cutoff=cutoff)
    fitted = fit_reference_energies(known, interaction_energies=energies).values
    rest = [
        ((s.energy or 0.0) - e - sum(fitted[int(z)] for z in s.atomic_numbers)) / s.n_atoms
        for s, e in zip(structures, energies, strict=True)
    ]
    return _root_mean_square(np.array(rest))


def head_drift(
    base: MultiHeadPotential,
    tuned: MultiHeadPotential,
    structures: Sequence[LabelledStructure],
) -> dict[str, float | None]:
    """How far each old head's forces have moved on the new structures, since the backbone did.

    Returns:
        Root-mean-square change in eV/Å by head; None where it knows none of the structures.
    """
    mixed = MultiHeadPotential(tuned.backbone, {name: base.head(name) for name in base.head_names})
    found: dict[str, float | None] = {}
    for name in base.head_names:
        changes = [
            (_predict(mixed, name, s).forces - _predict(base, name, s).forces).numpy()
            for s in _some([s for s in structures if _knows(base, name, [s])])
        ]
        found[name] = _root_mean_square(np.concatenate(changes)) if changes else None
    return found


def _some(structures: Sequence[LabelledStructure]) -> Sequence[LabelledStructure]:
    """About `N_COMPARED` of them, spread over all."""
    return structures[:: max(1, len(structures) // N_COMPARED)]


def _check_head(options: FinetuneOptions, config: Mapping[str, Any]) -> None:
    if options.head in config["heads"]:
        raise ValueError(
            f"head '{options.head}' exists already, choose another name; "
            f"{checkpoint.describe_heads(config)}"
        )
    if options.inherit_head is not None:
        checkpoint.select(config, [options.inherit_head])


def _closest(misfits: Mapping[str, float]) -> str:
    name = min(misfits, key=misfits.__getitem__)
    if not math.isfinite(misfits[name]):
        raise ValueError(
            "no head of the model knows all elements of the new data; name the one to start from "
            f"with --inherit-head, out of {', '.join(misfits)}"
        )
    return name


def _read(options: FinetuneOptions) -> tuple[list[LabelledStructure], int]:
    """The new data, of a store some of them, and how many are trained on."""
    if is_store(Path(options.train)):
        train = open_store(options.train, verify=False).splits["train"]  # the engine verifies
        places = np.arange(0, len(train), max(1, len(train) // N_READ))
        return list(train.structures(places)), len(train)
    keys = LabelKeys(
        energy=options.energy_key, forces=options.forces_key, stress=options.stress_key
    )
    structures, _ = read_extxyz(Path(options.train), keys=keys)
    set_aside = 0.0 if options.valid else options.valid_fraction
    return structures, max(1, len(structures) - round(set_aside * len(structures)))


def _head_options(options: FinetuneOptions, inherited: str) -> HeadOptions:
    data: dict[str, Any]
    if is_store(Path(options.train)):
        data = {"store": options.train, "level_of_theory": options.level_of_theory}
    else:
        data = {
            "train": options.train,
            "valid_fraction": 0.0 if options.valid else options.valid_fraction,
            "level_of_theory": options.level_of_theory or "as in the training data",
        }
    return HeadOptions(
        **data,
        valid=options.valid,
        test=options.test,
        labels=options.labels,
        description=f"fine-tuned from head '{inherited}'",
        energy_key=options.energy_key,
        forces_key=options.forces_key,
        stress_key=options.stress_key,
        reference_energies=options.reference_energies,
        batch_size=options.batch_size,
        inherit=inherited,
    )


def _run_config(options: FinetuneOptions, inherited: str, *, n_train: int) -> RunConfig:
    steps = options.epochs * math.ceil(n_train / options.batch_size)
    return RunConfig(
        run=options.run,
        heads={options.head: _head_options(options, inherited)},
        init_from=str(options.model),
        seed=options.seed,
        dtype=options.dtype,
        device=options.device,
        training=TrainingOptions(
            steps=steps,
            learning_rate=options.learning_rate,
            warmup_steps=min(50, steps // 10),
            freeze_backbone=options.method == "heads",
            validate_every=max(1, steps // 5),
        ),
        snapshots=SnapshotOptions(every_steps=max(1, steps // 5)),
    )


def _add_old_heads(
    folder: Path, options: FinetuneOptions, drift: Mapping[str, float | None]
) -> None:
    """Put the old heads beside the new one, marked where the backbone has left them behind."""
    old, new = checkpoint.read_config(options.model), checkpoint.read_config(folder)
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(folder, unfinished)
    heads = {}
    for name in old["heads"]:
        shutil.copy2(options.model / checkpoint.head_file(name), unfinished / "heads")
        config = checkpoint.head_config(old, name)
        heads[name] = replace(config, stale=config.stale or options.method == "full")
    heads[options.head] = checkpoint.head_config(new, options.head)
    training = checkpoint.read_training(folder)
    before = checkpoint.read_training(options.model).get("heads", {})
    training["heads"] = before | training["heads"]
    training["drift"] = dict(drift)
    checkpoint.write_config(
        unfinished, backbone=checkpoint.backbone_config(new), heads=heads, training=training
    )
    shutil.rmtree(folder)
    unfinished.rename(folder)


def _misfit_table(misfits: Mapping[str, float], inherited: str) -> str:
    rows = [
        (
            name,
            f"{misfit:.3f}" if math.isfinite(misfit) else "other elements",
            "inherited" if name == inherited else "",
        )
        for name, misfit in sorted(misfits.items(), key=lambda item: item[1])
    ]
    header = ("old head", "error on the new data, eV/Å (eV/atom without forces)", "")
    return text_table(header, rows)


def _error_table(folder: Path, options: FinetuneOptions) -> str:
    facts = checkpoint.read_training(folder)["heads"][options.head]
    judged = "test" if "test" in facts else "valid"
    if judged not in facts:
        return "no errors are known: there are no data to validate or to test on"
    evaluations = {
        "before": facts[f"{judged}_before"],
        "after": facts[judged],
        "predicting nothing": facts["baseline"],
    }
    return error_table({when: {options.head: errors} for when, errors in evaluations.items()})


def _drift_table(folder: Path, drift: Mapping[str, float | None]) -> str:
    heads = checkpoint.read_config(folder)["heads"]
    rows = [
        (
            name,
            "-" if change is None else f"{1e3 * change:.1f}",
            "stale" if heads[name]["stale"] else "",
        )
        for name, change in drift.items()
    ]
    return text_table(("old head", "change of its forces on the new data, meV/Å", ""), rows)


def _knows(
    potential: MultiHeadPotential, head: str, structures: Sequence[LabelledStructure]
) -> bool:
    known = potential.head(head).config.elements
    present = {int(z) for s in structures for z in s.atomic_numbers}
    return {chemical_symbols[z] for z in present}.issubset(known)


def _predict(potential: MultiHeadPotential, head: str, structure: LabelledStructure) -> Prediction:
    graph = build_graph(
        structure.atomic_numbers,
        structure.positions,
        cell=structure.cell,
        pbc=structure.pbc,
        cutoff=potential.cutoff,
    )
    return predict(potential, graph, head)


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))
