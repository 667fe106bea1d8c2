"""Bytes that a rank holds: weights, what training keeps beside them, and a pass."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from gfm_pretrain.plan.dealing import Dealt
from gfm_pretrain.plan.parameters import PartSize
from gfm_pretrain.plan.pass_profile import PassProfile
from gfm_pretrain.plan.workload import Owners, Workload

KEPT = {"weights": 1, "average": 1, "weights set aside": 1}
"""Numbers for each parameter. The last are the weights that stand aside while averages are judged:
torch_ema keeps their memory from the first evaluation on, which is before the first step."""
KEPT_IF_TRAINED = {"gradients": 1, "Adam's moments": 2}
"""Further numbers for each parameter that is trained."""


def parameters_held(
    workload: Workload, owners: Owners, *, n_ranks: int, n_shards: int = 1
) -> Int[np.ndarray, " ranks"]:
    """Parameters on each rank: P_s / S, rounded up, + Σ P_h over the heads it owns."""
    held = np.full(n_ranks, -(-workload.backbone.n_parameters // n_shards), dtype=np.int64)
    for name, ranks in owners.items():
        held[list(ranks)] += workload.heads[name].size.n_parameters
    return held


def state_bytes(
    workload: Workload, owners: Owners, *, n_ranks: int, n_shards: int = 1, in_step: bool = True
) -> Int[np.ndarray, " ranks"]:
    """Bytes of weights, gradients, moments and averages on each rank, activations aside.

    k · b · (P_s / S + Σ P_h), b being the bytes of a number and k = 6 the numbers that are kept for
    each parameter, 3 if it is frozen. Where the backbone is sharded, S > 1, its whole weights and
    their gradient are there as well during a step: 2 · b · P_s.

    Args:
        workload: The run.
        owners: Of its heads.
        n_ranks: Number of ranks.
        n_shards: S, ranks that hold one backbone together.
        in_step: During a step, not between two.
    """
    width = workload.dtype.itemsize
    backbone = _kept(workload.backbone) * width // n_shards
    if n_shards > 1 and in_step:
        backbone += width * (workload.backbone.n_parameters + workload.backbone.n_trained)
    held = np.full(n_ranks, backbone, dtype=np.int64)
    for name, ranks in owners.items():
        held[list(ranks)] += _kept(workload.heads[name].size) * width
    return held


def activation_bytes(
    dealt: Dealt, profile: PassProfile, *, everywhere: bool, micro_batch_edges: int
) -> Float[np.ndarray, " ranks"]:
    """Bytes of the largest pass of each rank.

    Args:
        dealt: What each rank has to do.
        profile: Bytes of an atom and of an edge.
        everywhere: Whether structures of all heads go through the network together.
        micro_batch_edges: Edges that go through it at once.
    """
    sizes = dealt.largest_pass
    if everywhere:
        sums = np.stack([dealt.n_atoms.sum(0), dealt.n_edges.sum(0)], axis=1)
        sizes = sums / np.maximum(1, np.ceil(sums[:, 1:] / micro_batch_edges))
    return profile.activation_bytes(sizes)


def _kept(part: PartSize) -> int:
    return _sum(KEPT) * part.n_parameters + _sum(KEPT_IF_TRAINED) * part.n_trained


def _sum(kept: Mapping[str, int]) -> int:
    return sum(kept.values())
