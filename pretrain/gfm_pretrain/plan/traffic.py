"""Bytes that a rank sends in a step for gradients, by the formula of the ring."""

import numpy as np
from jaxtyping import Float

from gfm_pretrain.plan.network import gather_bytes, ring_bytes
from gfm_pretrain.plan.workload import Owners, Workload


def bytes_sent(
    workload: Workload,
    owners: Owners,
    *,
    n_ranks: int,
    n_shards: int = 1,
) -> Float[np.ndarray, " ranks"]:
    """Bytes that each rank sends, b being the bytes of a number.

        2 (R − 1)/R · P_s b + Σ 2 (n_h − 1)/n_h · P_h b   over the heads it owns.

    A backbone in S pieces is gathered at the beginning of a step, its gradient reduced and
    scattered over the S ranks at the end, and each piece summed over the R / S ranks that have the
    same one:

        2 (S − 1)/S · P_s b + 2 (R/S − 1)/(R/S) · P_s b / S.

    Args:
        workload: The run.
        owners: Of its heads; all ranks own all of them in plain DDP.
        n_ranks: R.
        n_shards: S.
    """
    gradient = workload.backbone.gradient_bytes
    weights = workload.backbone.n_parameters * workload.dtype.itemsize
    sent = np.full(n_ranks, ring_bytes(gradient / n_shards, max(1, n_ranks // n_shards)))
    if n_shards > 1:
        sent += gather_bytes(gradient, n_shards) + gather_bytes(weights, n_shards)
    for name, ranks in owners.items():
        sent[list(ranks)] += ring_bytes(workload.heads[name].size.gradient_bytes, len(ranks))
    return sent
