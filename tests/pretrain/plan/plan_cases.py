"""Runs made up for planning: sizes of structures without the structures."""

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import torch
from gfm_models.backbone import BackboneConfig
from gfm_pretrain.cost import ROUGH, StepCost
from gfm_pretrain.data.structure_set import Index
from gfm_pretrain.plan.parameters import backbone_size, head_size
from gfm_pretrain.plan.pass_profile import PassProfile
from gfm_pretrain.plan.workload import HeadWork, Workload

TINY = BackboneConfig(channels=4, n_radial=4, radial_hidden=(6,), element_channels=4)
BYTES_PER_BUCKET = 2000
PROFILE = PassProfile(
    bytes_per_atom=1000.0,
    bytes_per_edge=100.0,
    backward_part=0.5,
    ready_backbone=(1.0,),
    ready_head=(1.0,),
)
COST = StepCost(per_pass=1e-3, per_atom=1e-5, per_edge=1e-6, residual=0.0, n_timings=0)


def make_index(n_atoms: list[int], n_edges: list[int], *, cutoff: float = 5.0) -> Index:
    """Structures with so many atoms and edges."""
    return Index(
        first_atom=(np.concatenate([[0], np.cumsum(n_atoms)]),),
        n_edges=(np.array(n_edges, dtype=np.uint32)[:, None],),
        labels=(np.full(len(n_atoms), 3, dtype=np.uint8),),
        radii=(cutoff,),
        cutoff=cutoff,
    )


def make_workload(
    batches: Mapping[str, int],
    indices: Mapping[str, Index] | None = None,
    *,
    width: int = 6,
    model: BackboneConfig = TINY,
    frozen: bool = False,
    bytes_per_bucket: int = 10**9,
    micro_batch_edges: int = 10**6,
) -> Workload:
    """Heads with so many structures in a step, all of one size unless indices are given."""
    kind = {"dtype": torch.float32, "bytes_per_bucket": bytes_per_bucket}
    alike = make_index([10] * 50, [100] * 50)
    heads = {
        name: HeadWork(
            index=(indices or {}).get(name, alike),
            batch_size=Fraction(size),
            size=head_size(model, width, **kind),
        )
        for name, size in batches.items()
    }
    return Workload(
        heads=heads,
        backbone=backbone_size(model, frozen=frozen, **kind),
        architecture=model,
        dtype=torch.float32,
        cost=ROUGH,
        spill=0.0,
        micro_batch_edges=micro_batch_edges,
        seed=0,
    )
