"""One model that learns in a process of its own, for so many seconds of processor time.

    python -m peers.learning MODEL VARIANT FOLDER --seconds T --batch-size N --out FILE

FOLDER holds train.extxyz, test.extxyz and reference_energies.json, the same for all models. Time in
which the errors on the test set are computed does not count, nor does what comes before the first
step: code is compiled, and graphs are made where the trainer of the model keeps them in memory.
"""

import argparse
import json
import time
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from ase import Atoms
from ase.io import read

from peers.allocator import set_allocator
from peers.structures import Statistics, statistics_of

CHECKS = (1 / 8, 1 / 4, 1 / 2, 1.0)
"""Parts of the time after which errors are looked at; the last one is the result."""
LOOKED_AT = 40
"""Structures of the test set that are looked at before the end, spread evenly over it."""

Answer = tuple[float, np.ndarray]
"""Energy in eV and forces in eV/Å of a structure."""


class Learner(Protocol):
    """What a module `peers.<model>_learner` calls `Learner`."""

    seconds_to_finish: float
    """What `finish` is given of the time."""

    def step(self, done: float) -> None:
        """One step of the optimiser, when `done` (0 to 1) of the time is over."""
        ...

    def predict(self, structures: Sequence[Atoms]) -> list[Answer]:
        """With the weights that would be published now."""
        ...

    def finish(self) -> None:
        """What comes after the last step."""
        ...

    @property
    def n_parameters(self) -> int:
        """Weights that are trained."""
        ...


def main() -> None:
    """Learn, and write what came out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", choices=["own", "mace", "nequip"])
    parser.add_argument("variant")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    set_allocator("kept")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    build = import_module(f"peers.{options.model}_learner").Learner
    learner: Learner = build(options.variant, options.folder, batch_size=options.batch_size)
    found = learn(learner, structures(options.folder, "test"), seconds=options.seconds)
    partial = options.out.with_suffix(".new")
    partial.write_text(json.dumps(found), encoding="utf-8")
    partial.rename(options.out)


def structures(folder: Path, split: str) -> list[Atoms]:
    """Of a split, labelled."""
    found = read(folder / f"{split}.extxyz", ":", format="extxyz")
    assert isinstance(found, list)
    return found


def reference_energies(folder: Path) -> dict[str, float]:
    """Of the elements of the set, in eV."""
    text = (folder / "reference_energies.json").read_text(encoding="utf-8")
    return json.loads(text)


def told(folder: Path, train: Sequence[Atoms], *, cutoff: float) -> Statistics:
    """What a peer is told of its training data, with the reference energies all models have."""
    found = statistics_of(train, cutoff=cutoff)
    return Statistics(
        reference_energies=reference_energies(folder),
        force_rms=found.force_rms,
        mean_neighbors=found.mean_neighbors,
    )


def mean_interaction_energy(train: Sequence[Atoms], reference: dict[str, float]) -> float:
    """Of an atom, in eV, as both peers are told by their recipes."""
    per_atom = [interaction_energy(atoms, reference) / len(atoms) for atoms in train]
    return sum(per_atom) / len(per_atom)


def interaction_energy(atoms: Atoms, reference: dict[str, float]) -> float:
    """Labelled, in eV, above that of the atoms alone."""
    return atoms.get_potential_energy() - atoms_alone(atoms, reference)


def atoms_alone(atoms: Atoms, reference: dict[str, float]) -> float:
    """Sum of reference energies in eV."""
    return sum(reference[symbol] for symbol in atoms.symbols)


def learn(learner: Learner, test: Sequence[Atoms], *, seconds: float) -> dict[str, Any]:
    """Train for the time; errors when parts of it are over, and before what comes after steps."""
    few = [test[i] for i in np.unique(np.linspace(0, len(test) - 1, LOOKED_AT).astype(int))]
    used, steps = 0.0, 0
    for_steps = seconds - learner.seconds_to_finish
    curve: list[dict[str, float]] = []
    stepped: dict[str, float] = {}
    for part in CHECKS:
        while used < part * for_steps:
            start = time.process_time()
            learner.step(used / for_steps)
            used, steps = used + time.process_time() - start, steps + 1
        chosen = few
        if part == CHECKS[-1]:
            stepped = errors(learner.predict(test), test)
            start = time.process_time()
            learner.finish()
            used, chosen = used + time.process_time() - start, test
        curve.append({"seconds": used, "steps": steps, **errors(learner.predict(chosen), chosen)})
    return {"parameters": learner.n_parameters, "curve": curve, "stepped": stepped}


def errors(answers: Sequence[Answer], labelled: Sequence[Atoms]) -> dict[str, float]:
    """Mean absolute and root-mean-square errors: eV per atom, and eV/Å over components."""
    energy = np.array(
        [
            (answer[0] - atoms.get_potential_energy()) / len(atoms)
            for answer, atoms in zip(answers, labelled, strict=True)
        ]
    )
    forces = np.concatenate(
        [answer[1] - atoms.get_forces() for answer, atoms in zip(answers, labelled, strict=True)]
    )
    return {
        "energy_mae": float(np.abs(energy).mean()),
        "energy_rmse": float(np.sqrt((energy**2).mean())),
        "forces_mae": float(np.abs(forces).mean()),
        "forces_rmse": float(np.sqrt((forces**2).mean())),
    }


class Average:
    """Exponential moving average of weights, as both peers keep it (torch_ema's warm-up)."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter], decay: float) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        self.shadow = [p.detach().clone() for p in self.parameters]
        self.decay = decay
        self.n_updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """After a step."""
        self.n_updates += 1
        keep = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates))
        for shadow, parameter in zip(self.shadow, self.parameters, strict=True):
            shadow.lerp_(parameter, 1 - keep)

    @torch.no_grad()
    def swap(self) -> None:
        """Weights for averages, and back when it is called again."""
        for parameter, shadow in zip(self.parameters, self.shadow, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(shadow)
            shadow.copy_(kept)


class Shuffled:
    """Numbers of structures, batch by batch, every structure once in an epoch."""

    def __init__(self, n: int, batch_size: int) -> None:
        self.n, self.batch_size = n, min(batch_size, n)
        self.generator = np.random.default_rng(0)
        self.waiting: list[int] = []

    def next(self) -> list[int]:
        """The next batch; what does not fill one at the end of an epoch is left out."""
        if len(self.waiting) < self.batch_size:
            self.waiting = self.generator.permutation(self.n).tolist()
        batch, self.waiting = self.waiting[: self.batch_size], self.waiting[self.batch_size :]
        return batch


if __name__ == "__main__":
    main()
