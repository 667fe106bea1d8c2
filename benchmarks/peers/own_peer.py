"""This project: what users of the calculator and of the trainer get, with random weights."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.io import write
from gfm_models import checkpoint
from gfm_models.heads import HeadConfig
from gfm_models.potential import build_potential
from gfm_models.presets import preset
from gfm_pretrain.config import RunConfig
from gfm_pretrain.head_options import HeadOptions
from gfm_pretrain.process import World
from gfm_pretrain.setup import set_up
from gfm_pretrain.trainer import Trainer
from gfm_pretrain.training_options import TrainingOptions

from gfmcalc.calculator import GFMCalculator
from peers.structures import universal_statistics

HEAD = "head"
ALONE = World(
    rank=0, size=1, local_rank=0, local_size=1, launcher="single", device=torch.device("cpu")
)


def calculator(variant: str) -> Calculator:
    """Of 89 elements, read from a checkpoint as everybody's."""
    energies = universal_statistics().reference_energies
    head = HeadConfig(
        level_of_theory="none",
        reference_energies=energies,
        scales=dict.fromkeys(energies, 1.0),
    )
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        potential = build_potential(preset(variant), {HEAD: head})
        checkpoint.save(potential, Path(folder) / "model", training={})
        return GFMCalculator(Path(folder) / "model", device="cpu")


def training_step(variant: str, structures: Sequence[Atoms]) -> Callable[[], object]:
    """`Trainer.train_step` on one rank: everything it does, reading and averaging included."""
    with tempfile.TemporaryDirectory() as folder:
        train = Path(folder) / "train.extxyz"
        write(train, list(structures), format="extxyz")
        options = HeadOptions(
            train=str(train),
            valid=str(train),
            level_of_theory="none",
            batch_size=len(structures),
        )
        config = RunConfig(
            run=str(Path(folder) / "run"),
            heads={HEAD: options},
            training=TrainingOptions(steps=10**6),
            model=preset(variant),
            device="cpu",
        )
        return Trainer(config, set_up(config, ALONE), ALONE).train_step
