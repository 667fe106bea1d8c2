"""How many parameters a backbone and its heads have, without taking memory for them."""

import torch
from gfm_models.backbone import Backbone, BackboneConfig
from gfm_models.heads import Head, HeadConfig
from torch import nn


def count_backbone(config: BackboneConfig) -> int:
    """Parameters of the backbone that every rank holds."""
    with torch.device("meta"):
        return _count(Backbone(config))


def count_head(config: BackboneConfig, width: int) -> int:
    """Parameters of one head with a hidden layer of `width`; elements add none."""
    described = HeadConfig(level_of_theory="", reference_energies={}, scales={}, width=width)
    with torch.device("meta"):
        return _count(Head(described, n_features=config.n_features))


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
