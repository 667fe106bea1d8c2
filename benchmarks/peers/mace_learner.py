"""MACE's own recipe, with time in place of epochs.

Adam (amsgrad) with learning rate 0.01, decay 5e-7 of the weights that its trainer decays, norm of
gradients at most 10, average 0.99, loss 1 : 100 of energy per atom and forces, and from three
quarters of the time on its second stage: 1000 : 100 with learning rate 0.001. Variants with
"+cosine" replace the constant rate of the first stage, which its trainer lowers on plateaus, by a
cosine that falls to 0.001; those with "+5A" cut off at 5 Å.

Reference energies are taken off the labels and added to what is predicted, in float64: its sums are
in float32, in which an energy of all electrons would lose half a digit that counts.
"""
# pyright: reportMissingImports=false

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from mace import modules
from mace.data import AtomicData
from mace.tools import torch_geometric
from mace.tools.train import take_step

from peers.learning import (
    Answer,
    Average,
    Shuffled,
    atoms_alone,
    interaction_energy,
    mean_interaction_energy,
    structures,
    told,
)
from peers.mace_peer import CUTOFF, build_model, elements, graph_of

RATE, STAGE_TWO_RATE = 0.01, 0.001
STAGE_TWO = 0.75
DECAY = 5e-7
EVALUATED_AT_ONCE = 8
FIRST_STEPS = 4
WANTED = {"forces": True, "virials": False, "stress": False}


class Learner:
    """See `learning.Learner`."""

    seconds_to_finish = 0.0

    def __init__(self, variant: str, folder: Path, *, batch_size: int) -> None:
        shape, *self.options = variant.split("+")
        self.cutoff = 5.0 if "5A" in self.options else CUTOFF
        train = structures(folder, "train")
        statistics = told(folder, train, cutoff=self.cutoff)
        self.table = elements(statistics)
        self.reference = statistics.reference_energies
        without = replace(statistics, reference_energies=dict.fromkeys(self.reference, 0.0))
        self.model = build_model(shape, without, cutoff=self.cutoff)
        shift = self.model.state_dict()["scale_shift.shift"]
        shift.fill_(mean_interaction_energy(train, self.reference))
        self.graphs = [self.graph(atoms) for atoms in train]
        self.order = Shuffled(len(train), batch_size)
        self.first = modules.WeightedEnergyForcesLoss(energy_weight=1.0, forces_weight=100.0)
        self.second = modules.WeightedEnergyForcesLoss(energy_weight=1000.0, forces_weight=100.0)
        self.start_anew()
        self.compile()

    def start_anew(self) -> None:
        """An optimiser and averages that have seen nothing."""
        self.optimizer = torch.optim.Adam(parameter_groups(self.model), lr=RATE, amsgrad=True)
        self.average = Average(list(self.model.parameters()), decay=0.99)

    def compile(self) -> None:
        """Take the first steps, in which TorchScript compiles, and undo them."""
        before = copy.deepcopy(self.model.state_dict())
        for _ in range(FIRST_STEPS):
            self.step(0.0)
        self.model.load_state_dict(before)
        self.start_anew()

    def finish(self) -> None:
        """Nothing comes after the last step."""

    @property
    def n_parameters(self) -> int:
        """Weights that are trained."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def graph(self, atoms: Atoms) -> AtomicData:
        """Labelled with the energy above that of the atoms alone."""
        shifted = atoms.copy()
        energy = interaction_energy(atoms, self.reference)
        shifted.calc = SinglePointCalculator(shifted, energy=energy, forces=atoms.get_forces())
        return graph_of(shifted, self.table, cutoff=self.cutoff)

    def step(self, done: float) -> None:
        """One step, when `done` of the time is over."""
        second = done >= STAGE_TWO
        for group in self.optimizer.param_groups:
            group["lr"] = STAGE_TWO_RATE if second else self.rate(done / STAGE_TWO)
        chosen = [self.graphs[i] for i in self.order.next()]
        batch = torch_geometric.Batch.from_data_list(chosen)
        loss = self.second if second else self.first
        take_step(self.model, loss, batch, self.optimizer, None, WANTED, 10.0, torch.device("cpu"))
        self.average.update()

    def rate(self, done: float) -> float:
        """Of the first stage."""
        if "cosine" not in self.options:
            return RATE
        return STAGE_TWO_RATE + (RATE - STAGE_TWO_RATE) * 0.5 * (1 + math.cos(math.pi * done))

    def predict(self, structures: Sequence[Atoms]) -> list[Answer]:
        """With the averaged weights."""
        self.average.swap()
        answers: list[Answer] = []
        for start in range(0, len(structures), EVALUATED_AT_ONCE):
            part = structures[start : start + EVALUATED_AT_ONCE]
            graphs = [self.graph(atoms) for atoms in part]
            batch = torch_geometric.Batch.from_data_list(graphs)
            out = self.model(batch.to_dict(), training=False, compute_force=True)
            forces = out["forces"].detach().double().split([len(atoms) for atoms in part])
            answers += [
                (energy + atoms_alone(atoms, self.reference), force.numpy())
                for atoms, energy, force in zip(
                    part, out["energy"].detach().double().tolist(), forces, strict=True
                )
            ]
        self.average.swap()
        return answers


def parameter_groups(model: torch.nn.Module) -> list[dict]:
    """As `mace.tools.scripts_utils.get_params_options`: which weights decay."""
    decayed, others = [], []
    for name, parameter in model.named_parameters():
        is_decayed = (
            "interactions" in name and ("linear.weight" in name or "skip_tp_full.weight" in name)
        ) or "symmetric_contractions" in name
        (decayed if is_decayed else others).append(parameter)
    return [
        {"params": decayed, "weight_decay": DECAY},
        {"params": others, "weight_decay": 0.0},
    ]
