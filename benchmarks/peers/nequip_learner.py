"""NequIP's own recipe, as in the tutorial of its package, with time in place of epochs.

Adam with learning rate 0.01, average 0.999, loss 1 : 1 of energy per atom and forces. Where its
tutorial lowers the rate on plateaus it falls by a cosine to 1e-4, as ours does. Neighbours are
found beforehand. Variants with "+5A" cut off at 5 Å.

Training is compiled, the fastest setting of the package for training, before the clock starts:
steps are taken until none compiles anything, and are then undone.
"""
# pyright: reportMissingImports=false

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from ase import Atoms
from nequip.data import AtomicDataDict
from nequip.train import EnergyForceLoss
from torch._dynamo.utils import counters

from peers.learning import (
    Answer,
    Average,
    Shuffled,
    mean_interaction_energy,
    structures,
    told,
)
from peers.nequip_peer import CUTOFFS, build_model, graph_of, transforms
from peers.structures import Statistics

RATE, LAST_RATE = 0.01, 1e-4
EVALUATED_AT_ONCE = 8
QUIET_STEPS = 10


class Learner:
    """See `learning.Learner`."""

    seconds_to_finish = 0.0

    def __init__(self, variant: str, folder: Path, *, batch_size: int) -> None:
        shape, *options = variant.split("+")
        cutoff = 5.0 if "5A" in options else CUTOFFS[shape]
        mode = "eager" if "eager" in options else "compile"
        train = structures(folder, "train")
        statistics = told(folder, train, cutoff=cutoff)
        symbols = list(statistics.reference_energies)
        shifted = replace(statistics, reference_energies=shifts(train, statistics))
        model = build_model(shape, shifted, cutoff=cutoff, compile_mode=mode)
        self.model = model.train()
        self.prepare = transforms(shape, symbols, cutoff=cutoff)
        self.graphs = [graph_of(atoms, self.prepare) for atoms in train]
        self.order = Shuffled(len(train), batch_size)
        self.loss = EnergyForceLoss()
        self.start_anew()
        self.compile()

    def compile(self) -> None:
        """Take steps until several in a row compiled nothing, and undo them."""
        before, quiet = copy.deepcopy(self.model.state_dict()), 0
        while quiet < QUIET_STEPS:
            compiled = counters["stats"]["unique_graphs"]
            self.step(0.0)
            quiet = quiet + 1 if counters["stats"]["unique_graphs"] == compiled else 0
        self.model.load_state_dict(before)
        self.start_anew()

    def start_anew(self) -> None:
        """An optimiser and averages that have seen nothing."""
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=RATE)
        self.average = Average(list(self.model.parameters()), decay=0.999)

    def finish(self) -> None:
        """Nothing comes after the last step."""

    @property
    def n_parameters(self) -> int:
        """Weights that are trained."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def step(self, done: float) -> None:
        """One step, when `done` of the time is over."""
        for group in self.optimizer.param_groups:
            group["lr"] = LAST_RATE + (RATE - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * done))
        batch = AtomicDataDict.batched_from_list([self.graphs[i] for i in self.order.next()])
        self.optimizer.zero_grad()
        self.loss(self.model(batch.copy()), batch.copy())["weighted_sum"].backward()
        self.optimizer.step()
        self.average.update()

    def predict(self, structures: Sequence[Atoms]) -> list[Answer]:
        """With the averaged weights."""
        self.average.swap()
        self.model.eval()
        answers: list[Answer] = []
        for start in range(0, len(structures), EVALUATED_AT_ONCE):
            part = structures[start : start + EVALUATED_AT_ONCE]
            graphs = [graph_of(atoms, self.prepare) for atoms in part]
            out = self.model(AtomicDataDict.batched_from_list(graphs))
            forces = out["forces"].detach().double().split([len(atoms) for atoms in part])
            energies = out["total_energy"].detach().double().flatten().tolist()
            answers += [(e, f.numpy()) for e, f in zip(energies, forces, strict=True)]
        self.model.train()
        self.average.swap()
        return answers


def shifts(train: Sequence[Atoms], statistics: Statistics) -> dict[str, float]:
    """Of energies by element, such that a model that says nothing is right on average."""
    mean = mean_interaction_energy(train, statistics.reference_energies)
    return {symbol: energy + mean for symbol, energy in statistics.reference_energies.items()}
