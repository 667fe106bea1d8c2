"""SevenNet in the shape of SevenNet-0, from the configuration that its package brings.

    Park et al., J. Chem. Theory Comput. 20, 4857 (2024): five layers, 5 Å.

Runs in the environment of `sevenn`. Its calculator and its trainer are what users of the package
get on a CPU; it is in float32.
"""
# pyright: reportMissingImports=false

from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

import torch
import yaml
from ase import Atoms
from ase.calculators.calculator import Calculator
from sevenn.calculator import SevenNetCalculator
from sevenn.model_build import build_E3_equivariant_model
from sevenn.parse_input import init_model_config, init_train_config
from sevenn.train.dataload import graph_build
from sevenn.train.trainer import Trainer
from torch import nn
from torch_geometric.loader import DataLoader

from peers.structures import Statistics, statistics_of, universal_statistics

PRESET = files("sevenn") / "presets" / "sevennet-0.yaml"
CUTOFF = 5.0


def configuration(statistics: Statistics) -> dict[str, Any]:
    """The published configuration with what it is told of the data."""
    published = yaml.safe_load(PRESET.read_text(encoding="utf-8"))
    symbols = sorted(statistics.reference_energies)
    return {
        **init_model_config({**published["model"], "chemical_species": symbols}),
        **init_train_config(published["train"]),
        "conv_denominator": statistics.mean_neighbors,
        "shift": [statistics.reference_energies[symbol] for symbol in symbols],
        "scale": statistics.force_rms,
        "is_train_stress": False,
        "device": "cpu",
    }


def build_model(shape: str, statistics: Statistics, *, seed: int = 0) -> nn.Module:
    """A trainable model with random weights, in float32.

    Args:
        shape: "0", the only one.
        statistics: Of the data it will be trained on.
        seed: Of the weights.
    """
    assert shape == "0", shape
    torch.manual_seed(seed)
    return build_E3_equivariant_model(configuration(statistics))


def calculator(variant: str) -> Calculator:
    """Of 89 elements."""
    model = build_model(variant, universal_statistics())
    return SevenNetCalculator(model, file_type="model_instance", device="cpu")


def training_step(shape: str, structures: Sequence[Atoms]) -> Callable[[], None]:
    """A step of its trainer on a batch: graphs collated, loss, gradient, Adam.

    Graphs of single structures are made beforehand, as its trainer keeps them on disk.
    """
    statistics = statistics_of(structures, cutoff=CUTOFF)
    model = build_model(shape, statistics)
    trainer = Trainer.from_config(model, configuration(statistics))
    graphs = graph_build(list(structures), CUTOFF, y_from_calc=True, transfer_info=False)
    loader = DataLoader(graphs, batch_size=len(graphs))
    return lambda: trainer.run_one_epoch(loader, is_train=True)
