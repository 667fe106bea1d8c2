"""This project: `Trainer.train_step` with what a user gets who says nothing, but without stress.

A variant is a preset, and overrides of the run's configuration after it, such as
`small loss.energy_weight=10`.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ase import Atoms
from gfm_models.derivatives import predict
from gfm_models.graph import batch_graphs, graph_from_atoms
from gfm_pretrain.config import RunConfig
from gfm_pretrain.readout_fit import fit_readouts
from gfm_pretrain.run_configuration import read_run_configuration
from gfm_pretrain.setup import set_up
from gfm_pretrain.trainer import Trainer

from peers.learning import Answer, reference_energies
from peers.own_peer import ALONE, HEAD

EVALUATED_AT_ONCE = 8
MINUTES = 1.0
"""What the trainer takes for the whole time; it is told which part of it is over."""


class Learner:
    """See `learning.Learner`."""

    seconds_to_finish = 10.0

    def __init__(self, variant: str, folder: Path, *, batch_size: int) -> None:
        config = configuration(variant, folder, batch_size=batch_size)
        self.trainer = Trainer(config, set_up(config, ALONE), ALONE)
        self.trainer.potential.backbone.backend = "fused"

    def finish(self) -> None:
        """Solve for the last layer, as a run does."""
        if self.trainer.config.training.fit_readouts:
            fit_readouts(self.trainer)

    @property
    def n_parameters(self) -> int:
        """Weights that are trained."""
        return sum(p.numel() for p in self.trainer.potential.parameters())

    def step(self, done: float) -> None:
        """One step, when `done` of the time is over."""
        self.trainer.seconds = 60 * MINUTES * done
        self.trainer.train_step()

    def predict(self, structures: Sequence[Atoms]) -> list[Answer]:
        """With the averaged weights."""
        potential = self.trainer.potential
        answers: list[Answer] = []
        with self.trainer.weights.average.average_parameters():
            for start in range(0, len(structures), EVALUATED_AT_ONCE):
                part = structures[start : start + EVALUATED_AT_ONCE]
                graphs = [graph_from_atoms(atoms, cutoff=potential.cutoff) for atoms in part]
                found = predict(potential, batch_graphs(graphs), HEAD)
                forces = found.forces.split([len(atoms) for atoms in part])
                energies = found.energy.tolist()
                answers += [(e, f.numpy()) for e, f in zip(energies, forces, strict=True)]
        return answers


def configuration(variant: str, folder: Path, *, batch_size: int) -> RunConfig:
    """The run of a variant."""
    name, *overrides = variant.split()
    head = {
        "train": str(folder / "train.extxyz"),
        "level_of_theory": "as published",
        "batch_size": batch_size,
        "reference_energies": reference_energies(folder),
    }
    plain = {
        "run": str(folder / "unused"),
        "heads": {HEAD: head},
        "training": {"steps": 10**8, "max_minutes": MINUTES},
        "model": {"preset": name},
        "loss": {"stress_weight": 0.0},
        "device": "cpu",
    }
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "run.yaml"
        path.write_text(json.dumps(plain), encoding="utf-8")
        return read_run_configuration(path, overrides)
