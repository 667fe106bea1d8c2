"""What a run asks of its ranks: sizes of models and structures, from its configuration alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from gfm_models.backbone import BackboneConfig
from gfm_models.checkpoint import backbone_config, head_config, read_config

from gfm_pretrain.config import RunConfig
from gfm_pretrain.cost import RelativeCost, StepCost
from gfm_pretrain.data.deal import first_deals
from gfm_pretrain.data.heads import read_head
from gfm_pretrain.data.mixture import batch_sizes
from gfm_pretrain.data.sampler import dealt_places
from gfm_pretrain.data.store.manifest import StoreError
from gfm_pretrain.data.store.store import open_store
from gfm_pretrain.data.structure_set import Index, Places
from gfm_pretrain.head_options import HeadOptions
from gfm_pretrain.mixture_placement import place_mixture
from gfm_pretrain.plan.parameters import PartSize, backbone_size, head_size
from gfm_pretrain.setup import DTYPES, relative_cost

Owners = Mapping[str, tuple[int, ...]]
"""Ranks that own each head, ascending."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadWork:
    """One head."""

    index: Index
    """Atoms and edges of every training structure."""
    batch_size: Fraction
    """Structures in a step over all ranks, on average."""
    size: PartSize
    """Its weights."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Workload:
    """A run, whatever it runs on."""

    heads: Mapping[str, HeadWork]
    """In the order of the configuration."""
    backbone: PartSize
    """Weights of the backbone."""
    architecture: BackboneConfig
    """What the backbone is."""
    dtype: torch.dtype
    """Precision of the weights."""
    cost: RelativeCost
    """What heads are placed by and structures are dealt by."""
    spill: float
    """How far heads reach over onto ranks of their neighbours, see `TrainingOptions`."""
    micro_batch_edges: int
    """Edges that a rank takes through the network at once."""
    seed: int
    """Of the order of the data."""

    @property
    def batch_size(self) -> Fraction:
        """Structures of a step, over all heads and ranks."""
        return sum((head.batch_size for head in self.heads.values()), Fraction(0))

    def step_costs(self) -> dict[str, float]:
        """Cost of a step of each head on average, passes aside, in edges."""
        return {
            name: head.index.statistics.mean_cost(self.cost) * float(head.batch_size)
            for name, head in self.heads.items()
        }

    def scaled(self, factor: Fraction) -> "Workload":
        """The same mixture with `factor` times as many structures in a step."""
        heads = {
            name: replace(head, batch_size=head.batch_size * factor)
            for name, head in self.heads.items()
        }
        return replace(self, heads=heads)

    def place(self, n_ranks: int, *, method: str) -> dict[str, tuple[int, ...]]:
        """Owners of each head, as the engine chooses them."""
        return place_mixture(
            {name: head.index.statistics for name, head in self.heads.items()},
            {name: head.batch_size for name, head in self.heads.items()},
            cost=self.cost,
            n_ranks=n_ranks,
            method=method,
            spill=self.spill,
        )

    def places(self, name: str, step: int) -> Places:
        """Structures of a head in a step, as the engine draws them."""
        head = self.heads[name]
        deal = first_deals({name: head.batch_size for name, head in self.heads.items()})[name]
        return dealt_places(
            deal.numbers(step), seed=self.seed, key=deal.key, n_structures=len(head.index)
        )


def read_workload(config: RunConfig, measured: StepCost | None = None) -> Workload:
    """Read the sizes of a run's data. Of a store only the columns of sizes are looked at.

    Args:
        config: Of the run.
        measured: What a step costs, where that is known.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a store or a file is broken; the message names the head.
    """
    base = None if config.init_from is None else read_config(Path(config.init_from))
    architecture = config.architecture if base is None else backbone_config(base)
    indices = {n: _index(n, head, architecture.cutoff) for n, head in config.heads.items()}
    batches = batch_sizes(config.mixture, config.heads, {n: len(i) for n, i in indices.items()})
    kind = {
        "dtype": DTYPES[config.dtype],
        "bytes_per_bucket": round(config.training.bucket_megabytes * 1e6),
    }
    heads = {
        name: HeadWork(
            index=indices[name],
            batch_size=batches[name],
            size=head_size(architecture, _width(options, base), **kind),
        )
        for name, options in config.heads.items()
    }
    return Workload(
        heads=heads,
        backbone=backbone_size(architecture, frozen=config.training.freeze_backbone, **kind),
        architecture=architecture,
        dtype=kind["dtype"],
        cost=relative_cost(config, measured),
        spill=config.training.spill,
        micro_batch_edges=config.training.micro_batch_edges,
        seed=config.seed,
    )


def _index(name: str, options: HeadOptions, cutoff: float) -> Index:
    if options.store is None:
        return read_head(name, options, cutoff=cutoff)[0].indices["train"]
    try:
        splits = open_store(options.store, verify=False).splits
    except StoreError as error:
        raise StoreError(f"head '{name}': {error}") from error
    if "train" not in splits:
        raise StoreError(
            f"head '{name}': {options.store} has no training structures; import the source again"
        )
    return splits["train"].index(cutoff)


def _width(options: HeadOptions, base: Mapping[str, Any] | None) -> int:
    if base is None or options.inherit is None:
        return options.width
    return head_config(base, options.inherit).width
