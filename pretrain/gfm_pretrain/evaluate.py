"""Errors of a head on a set of structures, exact for any number of ranks."""

from collections.abc import Callable

import numpy as np
import torch
from ase.data import atomic_numbers
from gfm_models.derivatives import Prediction, predict, stress
from gfm_models.graph import AtomicGraph, n_atoms_of
from gfm_models.heads import HeadConfig
from gfm_models.loss import LABEL_KINDS, Labels
from gfm_models.potential import MultiHeadPotential
from jaxtyping import Float
from torch import Tensor

from gfm_pretrain.data.batch import build_batch
from gfm_pretrain.data.reference import energies_per_atom
from gfm_pretrain.data.shard import VOIGT
from gfm_pretrain.data.structure_set import Places, StructureSet
from gfm_pretrain.packing.passes import split_by_size

Metrics = dict[str, float]
"""`energy_mae_per_atom`, `energy_rmse_per_atom` (eV), `forces_mae`, `forces_rmse` (eV/Å),
`stress_mae`, `stress_rmse` (eV/Å³); only those whose labels there are."""

KEY = {"energy": "energy_{}_per_atom", "forces": "forces_{}", "stress": "stress_{}"}


def error_sums(
    potential: MultiHeadPotential,
    head: str,
    structures: StructureSet,
    *,
    places: Places,
    micro_batch_edges: int,
    device: torch.device,
    goes_on: Callable[[], bool] = lambda: True,
) -> Float[Tensor, "3 3"]:
    """Sum over `places` of |error|, error² and number of components, for each kind of label.

    `goes_on` is asked before each batch; once it says no, the rest is left out.
    """
    sums = torch.zeros(3, 3, dtype=torch.float64, device=device)
    n_edges = structures.index(potential.cutoff).edges(places)
    for part in split_by_size(n_edges, micro_batch_edges):
        if not goes_on():
            break
        columns = structures.read(places[part])
        graph, labels = build_batch(columns, cutoff=potential.cutoff, device=device)
        sums += _sums(predict(potential, graph, head), labels, graph)
    return sums


def baseline_sums(structures: StructureSet, config: HeadConfig) -> Float[Tensor, "3 3"]:
    """The same, over all, for a prediction of reference energies, zero forces and zero stress."""
    reference = {atomic_numbers[s]: energy for s, energy in config.reference_energies.items()}
    energies = energies_per_atom(structures, reference)
    sums = torch.zeros(3, 3, dtype=torch.float64)
    sums[0] = _sums_of(torch.from_numpy(energies[np.isfinite(energies)]))
    for chunk in structures.chunks():
        forces = chunk.forces[chunk.atoms]
        stress = chunk.stress[:, VOIGT]
        for row, values in enumerate((forces, stress), start=1):
            known = values[np.isfinite(values)].astype(np.float64)
            sums[row] += _sums_of(torch.from_numpy(known))
    return sums


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
