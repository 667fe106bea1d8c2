"""From a configuration to a rank's part of a run: its data, its heads, its potential."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from gfm_models import checkpoint
from gfm_models.backbone import BackboneConfig
from gfm_models.heads import Head
from gfm_models.potential import MultiHeadPotential, build_potential

from gfm_pretrain.config import RunConfig
from gfm_pretrain.cost import ROUGH, RelativeCost, StepCost
from gfm_pretrain.cost_measurement import Candidate, measure_cost
from gfm_pretrain.data.heads import HeadSummary, Sets, read_head, read_heads
from gfm_pretrain.data.mixture import batch_sizes, steps_per_epoch, total_steps
from gfm_pretrain.data.store.share import share_store
from gfm_pretrain.data.store.store import Store, check_content, open_store
from gfm_pretrain.device import set_precision
from gfm_pretrain.mixture_placement import place_mixture
from gfm_pretrain.process import World

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True, eq=False)
class Setup:
    """A rank's part of a run before the first step."""

    summaries: Mapping[str, HeadSummary]
    """All heads of the run, in the order of the configuration."""

    batch_sizes: Mapping[str, Fraction]
    """Structures of each head in a step, on average."""

    total_steps: int
    """Of the run; where the configuration has epochs, what they come to."""

    measured: StepCost | None
    """What a step costs, where it was measured."""

    cost: RelativeCost
    """What heads were placed by and structures are dealt by."""

    owners: Mapping[str, tuple[int, ...]]
    """Ranks that own each head."""

    data: Mapping[str, Sets]
    """Structures of the heads this rank owns."""

    potential: MultiHeadPotential
    """The backbone and the heads this rank owns, and no others."""


def set_up(config: RunConfig, world: World, *, measured: StepCost | None = None) -> Setup:
    """Read the data, place the heads, build what this rank owns. Call on every rank.

    Args:
        config: Of the run.
        world: All ranks.
        measured: What a step costs, where an earlier part of the run has measured it.
    """
    set_precision(config.precision, world.device)
    base = _load_base(config, world)
    architecture = base.backbone.config if base else config.architecture
    summaries, data = read_heads(
        config, open_stores(config, world), cutoff=architecture.cutoff, base=base, world=world
    )
    sizes = {name: len(summary.indices["train"]) for name, summary in summaries.items()}
    batches = batch_sizes(config.mixture, config.heads, sizes)
    epoch_steps = steps_per_epoch(config.mixture.epoch, batches, sizes)
    if measured is None and needs_measurement(config, world):
        read_here = {n: data[n] for n in list(summaries)[world.rank :: world.size]}
        potential = _build(config, architecture, {n: summaries[n] for n in read_here}, base, world)
        measured = _measure(config, potential, summaries, read_here, world)
    cost = relative_cost(config, measured)
    owners = _place(config, summaries, batches, cost, world)
    mine = [name for name in summaries if world.rank in owners[name]]
    for name in mine:
        if name not in data:
            options = config.heads[name]
            _, data[name] = read_head(name, options, cutoff=architecture.cutoff, base=base)
    return Setup(
        summaries=summaries,
        batch_sizes=batches,
        total_steps=total_steps(config.training, epoch_steps),
        measured=measured,
        cost=cost,
        owners=owners,
        data={name: data[name] for name in mine},
        potential=_build(config, architecture, {n: summaries[n] for n in mine}, base, world),
    )


def open_stores(config: RunConfig, world: World) -> dict[str, Store]:
    """The store of each head that has one, every byte of it checked. Call on every rank.

    Every rank opens all of them, which costs no memory; the bytes to check are shared out.

    Raises:
        StoreError: a store is missing or damaged; where its content is, on the rank that read it.
    """
    folders = {name: head.store for name, head in config.heads.items() if head.store is not None}
    opened = {
        folder: open_store(folder, verify=False) for folder in dict.fromkeys(folders.values())
    }
    for store in opened.values():
        check_content(store.folder, store.manifest, rank=world.rank, n_ranks=world.size)
    if config.stage == "shared":
        opened = {folder: share_store(store, world) for folder, store in opened.items()}
    return {name: opened[folder] for name, folder in folders.items()}


def needs_measurement(config: RunConfig, world: World) -> bool:
    """Whether the cost of a step is to be measured: one rank has nothing to balance."""
    asked = (config.training.cost_of_atom, config.training.cost_of_pass)
    return world.size > 1 and "measure" in asked


def relative_cost(config: RunConfig, measured: StepCost | None) -> RelativeCost:
    """What the configuration says, else what was measured, else a rough guess."""
    found = ROUGH if measured is None else measured.relative
    of_atom, of_pass = config.training.cost_of_atom, config.training.cost_of_pass
    return RelativeCost(
        of_atom=found.of_atom if of_atom == "measure" else of_atom,
        of_pass=found.of_pass if of_pass == "measure" else of_pass,
    )


def _measure(
    config: RunConfig,
    potential: MultiHeadPotential,
    summaries: Mapping[str, HeadSummary],
    data: Mapping[str, Sets],
    world: World,
) -> StepCost | None:
    """Time passes of the heads in `data`, on all ranks at once as in training."""
    return measure_cost(
        potential,
        [
            Candidate(name=name, structures=sets["train"], unit=summaries[name].unit)
            for name, sets in data.items()
        ],
        loss=config.loss,
        micro_batch_edges=config.training.micro_batch_edges,
        world=world,
    )


def _place(
    config: RunConfig,
    summaries: Mapping[str, HeadSummary],
    batches: Mapping[str, Fraction],
    cost: RelativeCost,
    world: World,
) -> dict[str, tuple[int, ...]]:
    return place_mixture(
        {name: summary.statistics for name, summary in summaries.items()},
        batches,
        cost=cost,
        n_ranks=world.size,
        method=config.training.placement,
        spill=config.training.spill,
    )


def _build(
    config: RunConfig,
    architecture: BackboneConfig,
    mine: Mapping[str, HeadSummary],
    base: MultiHeadPotential | None,
    world: World,
) -> MultiHeadPotential:
    potential = build_potential(
        architecture,
        {name: summary.config for name, summary in mine.items()},
        seed=config.seed,
        dtype=DTYPES[config.dtype],
    ).to(world.device)
    if base is not None:
        _inherit(potential, base, config)
    potential.backbone.requires_grad_(not config.training.freeze_backbone)
    if config.training.checkpoint_activations:
        potential.backbone.recompute_in_blocks(config.training.checkpoint_edges)
    potential.backbone.build_backend()
    return potential


def _load_base(config: RunConfig, world: World) -> MultiHeadPotential | None:
    if config.init_from is None:
        return None
    wanted = {head.inherit for head in config.heads.values() if head.inherit is not None}
    return checkpoint.load(
        Path(config.init_from),
        heads=sorted(wanted),
        dtype=DTYPES[config.dtype],
        device=world.device,
    )


def _inherit(potential: MultiHeadPotential, base: MultiHeadPotential, config: RunConfig) -> None:
    potential.backbone.load_state_dict(base.backbone.state_dict())
    for name in potential.head_names:
        old = config.heads[name].inherit
        if old is not None:
            _copy_weights(base.head(old), potential.head(name))


def _copy_weights(source: Head, target: Head) -> None:
    target.load_state_dict(source.state_dict())
