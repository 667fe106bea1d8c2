"""From a configuration to a rank's part of a run: its data, its heads, its potential."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from gfm_models import checkpoint
from gfm_models.heads import Head
from gfm_models.potential import MultiHeadPotential, build_potential

from gfm_pretrain.config import RunConfig
from gfm_pretrain.data.heads import HeadData, HeadSummary, read_head, read_heads
from gfm_pretrain.placement import place_heads
from gfm_pretrain.process import World

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True, eq=False)
class Setup:
    """A rank's part of a run before the first step."""

    summaries: Mapping[str, HeadSummary]
    """All heads of the run, in the order of the configuration."""

    owners: Mapping[str, tuple[int, ...]]
    """Ranks that own each head."""

    data: Mapping[str, HeadData]
    """Structures of the heads this rank owns."""

    potential: MultiHeadPotential
    """The backbone and the heads this rank owns, and no others."""


def set_up(config: RunConfig, world: World) -> Setup:
    """Read the data, place the heads, build what this rank owns. Call on every rank."""
    base = _load_base(config, world)
    architecture = base.backbone.config if base else config.architecture
    summaries, data = read_heads(config, cutoff=architecture.cutoff, base=base, world=world)
    costs = [s.step_cost * config.heads[name].batch_size for name, s in summaries.items()]
    placed = place_heads(costs, world.size, method=config.training.placement)
    owners = dict(zip(summaries, placed, strict=True))
    mine = [name for name in summaries if world.rank in owners[name]]
    for name in mine:
        if name not in data:
            options = config.heads[name]
            _, data[name] = read_head(name, options, cutoff=architecture.cutoff, base=base)
    potential = build_potential(
        architecture,
        {name: summaries[name].config for name in mine},
        seed=config.seed,
        dtype=DTYPES[config.dtype],
    ).to(world.device)
    if base is not None:
        _inherit(potential, base, config)
    potential.backbone.requires_grad_(not config.training.freeze_backbone)
    return Setup(
        summaries=summaries,
        owners=owners,
        data={name: data[name] for name in mine},
        potential=potential,
    )


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
