"""Bytes that a rank holds: weights and what training keeps beside them."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from gfm_pretrain.plan.workload import Owners, Workload

KEPT = {"weights": 1, "gradients": 1, "Adam's moments": 2, "average": 1, "weights set aside": 1}
"""Numbers for each parameter. The last are the weights that stand aside while averages are judged:
torch_ema keeps their memory from the first evaluation on, which is before the first step."""
KEPT_FROZEN = {"weights": 1, "average": 1, "weights set aside": 1}
"""The same for a parameter that is not trained."""


def parameters_held(
    workload: Workload, owners: Owners, *, n_ranks: int
) -> Int[np.ndarray, " ranks"]:
    """Parameters on each rank: P_s + Σ P_h over the heads it owns."""
    held = np.full(n_ranks, workload.n_backbone, dtype=np.int64)
    for name, ranks in owners.items():
        held[list(ranks)] += workload.heads[name].n_parameters
    return held


def state_bytes(workload: Workload, owners: Owners, *, n_ranks: int) -> Int[np.ndarray, " ranks"]:
    """Bytes of weights, gradients, moments and averages on each rank, activations aside.

    b · Σ kept · (P_s + Σ P_h), b being the bytes of a number; a frozen backbone has neither
    gradients nor moments.
    """
    trained = parameters_held(workload, owners, n_ranks=n_ranks)
    frozen = workload.n_backbone - workload.n_trained_backbone
    numbers = _sum(KEPT) * (trained - frozen) + _sum(KEPT_FROZEN) * frozen
    return numbers * workload.bytes_per_number


def _sum(kept: Mapping[str, int]) -> int:
    return sum(kept.values())
