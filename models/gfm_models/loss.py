"""The training loss as sums and counts, so that ranks and ragged batches drop out of it."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gfm_models.derivatives import Prediction
from gfm_models.graph import AtomicGraph, n_atoms_of, volumes


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """What is known of a batch, float64; NaN where it is not labelled."""

    energy: Float[Tensor, " graphs"]
    """Total energy in eV."""

    forces: Float[Tensor, "nodes 3"]
    """eV/Å."""

    stress: Float[Tensor, "graphs 3 3"]
    """eV/Å³, positive when tensile."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the three terms, and where the loss turns from square to absolute value."""

    energy_weight: float = 1.0
    """Weight of the energy per atom."""

    force_weight: float = 2.0
    """Weight of the force components."""

    stress_weight: float = 0.5
    """Weight of the components of stress times volume per atom."""

    delta: float = 0.05
    """Residual, in units of the head's force scale, where the Huber loss turns linear."""

    def __post_init__(self) -> None:
        """Check the signs.

        Raises:
            ValueError: naming the option.
        """
        for name in ("energy_weight", "force_weight", "stress_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"loss.{name} must not be negative, got {getattr(self, name)}")
        if not self.delta > 0:
            raise ValueError(f"loss.delta must be positive, got {self.delta}")


LABEL_KINDS = ("energy", "forces", "stress")
COMPONENTS = (1, 3, 9)
"""Components of one labelled item: a structure's energy, an atom's force, a structure's stress."""


def label_counts(labels: Labels) -> Float[Tensor, "3"]:
    """Number of labelled energies, atoms with forces, and stresses."""
    return torch.stack(
        [
            labels.energy.isfinite().sum(),
            _known(labels.forces).sum(),
            _known(labels.stress).sum(),
        ]
    ).double()


def residuals(
    prediction: Prediction, labels: Labels, graph: AtomicGraph
) -> tuple[Float[Tensor, " graphs"], Float[Tensor, "nodes 3"], Float[Tensor, "graphs 3 3"]]:
    """Differences from the labels, exactly zero (with zero gradient) where there is no label.

    Returns:
        Energy per atom in eV, forces in eV/Å, stress times volume per atom in eV.
    """
    n_atoms = n_atoms_of(graph).clamp(min=1)
    volume = torch.where(graph.has_cell, volumes(graph), torch.nan)  # without one no stress
    virial_label = labels.stress * volume[:, None, None]
    return (
        _masked(prediction.energy, labels.energy) / n_atoms,
        _masked(prediction.forces, labels.forces),
        _masked(prediction.virial, virial_label) / n_atoms[:, None, None],
    )


def labelled(
    labels: Labels, graph: AtomicGraph
) -> tuple[Bool[Tensor, " graphs"], Bool[Tensor, " nodes"], Bool[Tensor, " graphs"]]:
    """Which energies, forces and stresses `residuals` has something to compare with."""
    has_stress = _known(labels.stress) & graph.has_cell
    return _known(labels.energy), _known(labels.forces), has_stress


def loss_sums(
    prediction: Prediction,
    labels: Labels,
    graph: AtomicGraph,
    *,
    unit: float,
    delta: float,
) -> Float[Tensor, "3"]:
    """Huber losses of energies, forces and stresses, summed over items and components.

    Args:
        prediction: With the graph of its gradients (`create_graph=True`) when training.
        labels: Of the same batch.
        graph: The batch.
        unit: The head's force scale in eV/Å; residuals are measured in it (per Å for energies).
        delta: See `LossConfig`.
    """
    return torch.stack([huber(r / unit, delta).sum() for r in residuals(prediction, labels, graph)])


def loss_sums_by_structure(
    prediction: Prediction,
    labels: Labels,
    graph: AtomicGraph,
    *,
    unit: float,
    delta: float,
) -> Float[Tensor, "graphs 3"]:
    """What each structure adds to `loss_sums`."""
    energy, forces, stress = (huber(r / unit, delta) for r in residuals(prediction, labels, graph))
    of_forces = energy.new_zeros(graph.n_graphs).index_add(0, graph.graph_index, forces.sum(1))
    return torch.stack([energy, of_forces, stress.sum((1, 2))], dim=1)


def huber(x: Tensor, delta: float) -> Tensor:
    """|x| - δ/2 beyond δ, x²/2δ within: slope one far out, smooth at zero."""
    size = x.abs()
    return torch.where(size < delta, x * x / (2 * delta), size - delta / 2)


def weighted_loss(
    sums: Float[Tensor, "3"], counts: Float[Tensor, "3"], config: LossConfig
) -> Float[Tensor, ""]:
    """Σ_k λ_k sum_k / (components_k count_k): the loss of one head.

    Args:
        sums: Of any part of the global batch; the loss is linear in them.
        counts: Labelled items in the whole global batch of the head; absent kinds add nothing.
        config: The λ_k.
    """
    weights = (config.energy_weight, config.force_weight, config.stress_weight)
    scale = sums.new_tensor([w / c for w, c in zip(weights, COMPONENTS, strict=True)])
    return (scale * sums / counts.to(sums).clamp(min=1)).sum()


def _known(label: Float[Tensor, "items ..."]) -> Bool[Tensor, " items"]:
    """Which items are labelled: all their components are."""
    return label.isfinite().flatten(1).all(-1) if label.ndim > 1 else label.isfinite()


def _masked(prediction: Tensor, label: Tensor) -> Tensor:
    """Prediction minus label; masked on the label first, so that no NaN enters a gradient."""
    known = _known(label).view(-1, *[1] * (label.ndim - 1))
    return torch.where(known, prediction - torch.where(known, label, 0.0), 0.0)
