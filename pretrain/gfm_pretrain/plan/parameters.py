"""How large a backbone and its heads are, without taking memory for them."""

from dataclasses import dataclass

import torch
from gfm_models.backbone import Backbone, BackboneConfig
from gfm_models.heads import Head, HeadConfig
from torch import nn

from gfm_pretrain.process import Group
from gfm_pretrain.reduction.buckets import fill_buckets

NOBODY = Group(ranks=(0,), handle=None)


@dataclass(frozen=True, kw_only=True)
class PartSize:
    """The backbone, or a head."""

    n_parameters: int
    """Numbers that are weights."""
    n_trained: int
    """Those of them that have a gradient: all or none."""
    buckets: tuple[int, ...]
    """Bytes of the messages that its gradient is sent in, in the order of the backward pass."""

    @property
    def gradient_bytes(self) -> int:
        """Bytes of the whole gradient."""
        return sum(self.buckets)


def backbone_size(
    config: BackboneConfig, *, dtype: torch.dtype, bytes_per_bucket: int, frozen: bool = False
) -> PartSize:
    """Size of the backbone that every rank holds."""
    with torch.device("meta"):
        backbone = Backbone(config, dtype=dtype).requires_grad_(not frozen)
        return _size(backbone, bytes_per_bucket)


def head_size(
    config: BackboneConfig, width: int, *, dtype: torch.dtype, bytes_per_bucket: int
) -> PartSize:
    """Size of a head with a hidden layer of `width`; elements add nothing."""
    described = HeadConfig(level_of_theory="", reference_energies={}, scales={}, width=width)
    with torch.device("meta"):
        head = Head(described, n_features=config.n_features, dtype=dtype)
        return _size(head, bytes_per_bucket)


def _size(module: nn.Module, bytes_per_bucket: int) -> PartSize:
    """Of a module on the meta device, where buckets take no memory either."""
    buckets = fill_buckets(module.parameters(), NOBODY, bytes_per_bucket=bytes_per_bucket)
    return PartSize(
        n_parameters=sum(p.numel() for p in module.parameters()),
        n_trained=sum(p.numel() for p in module.parameters() if p.requires_grad),
        buckets=tuple(bucket.flat.numel() * bucket.flat.element_size() for bucket in buckets),
    )
