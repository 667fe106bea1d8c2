"""Errors of a head on a set of structures, exact for any number of ranks."""

from collections.abc import Sequence

import numpy as np
import torch
from ase.data import chemical_symbols
from gfm_models.derivatives import Prediction, predict, stress
from gfm_models.graph import AtomicGraph, n_atoms_of
from gfm_models.heads import HeadConfig
from gfm_models.loss import LABEL_KINDS, Labels
from gfm_models.potential import MultiHeadPotential
from jaxtyping import Float
from torch import Tensor

from gfm_pretrain.data.split import Split, build_batch
from gfm_pretrain.data.structure import LabelledStructure
from gfm_pretrain.placement import split_by_size

Metrics = dict[str, float]
"""`energy_mae_per_atom`, `energy_rmse_per_atom` (eV), `forces_mae`, `forces_rmse` (eV/Å),
`stress_mae`, `stress_rmse` (eV/Å³); only those whose labels there are."""

KEY = {"energy": "energy_{}_per_atom", "forces": "forces_{}", "stress": "stress_{}"}


def error_sums(
    potential: MultiHeadPotential,
    head: str,
    split: Split,
    *,
    micro_batch_edges: int,
    device: torch.device,
) -> Float[Tensor, "3 3"]:
    """Sum over structures of |error|, error² and number of components, for each kind of label."""
    sums = torch.zeros(3, 3, dtype=torch.float64, device=device)
    for part in split_by_size(split.index.n_edges, micro_batch_edges):
        graph, labels = build_batch(split.structures[part], cutoff=potential.cutoff, device=device)
        sums += _sums(predict(potential, graph, head), labels, graph)
    return sums


def baseline_sums(
    structures: Sequence[LabelledStructure], config: HeadConfig
) -> Float[Tensor, "3 3"]:
    """The same for a prediction of reference energies, zero forces and zero stress."""
    values: dict[str, list[np.ndarray]] = {kind: [np.empty(0)] for kind in LABEL_KINDS}
    for s in structures:
        if s.energy is not None:
            symbols = [chemical_symbols[z] for z in s.atomic_numbers]
            reference = sum(config.reference_energies[symbol] for symbol in symbols)
            values["energy"].append(np.array([(s.energy - reference) / s.n_atoms]))
        if s.forces is not None:
            values["forces"].append(s.forces.ravel())
        if s.stress is not None:
            values["stress"].append(s.stress.ravel())
    return torch.stack(
        [_sums_of(torch.from_numpy(np.concatenate(values[kind]))) for kind in LABEL_KINDS]
    )


def metrics(sums: Float[Tensor, "3 3"]) -> Metrics:
    """Mean absolute and root-mean-square errors of the kinds of label there are."""
    found: Metrics = {}
    for kind, (absolute, square, count) in zip(LABEL_KINDS, sums.tolist(), strict=True):
        if count:
            found[KEY[kind].format("mae")] = absolute / count
            found[KEY[kind].format("rmse")] = float(np.sqrt(square / count))
    return found


def _sums(prediction: Prediction, labels: Labels, graph: AtomicGraph) -> Float[Tensor, "3 3"]:
    per_atom = n_atoms_of(graph)
    errors = (
        (prediction.energy - labels.energy)[labels.energy.isfinite()]
        / per_atom[labels.energy.isfinite()],
        (prediction.forces - labels.forces)[labels.forces.isfinite()],
        (stress(prediction.virial, graph) - labels.stress)[labels.stress.isfinite()],
    )
    return torch.stack([_sums_of(kind) for kind in errors])


def _sums_of(errors: Float[Tensor, " known"]) -> Float[Tensor, "3"]:
    return torch.stack([errors.abs().sum(), errors.square().sum(), errors.new_tensor(len(errors))])
