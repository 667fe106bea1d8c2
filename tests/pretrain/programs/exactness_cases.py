"""The ways to a gradient that exactness_program.py goes and test_exactness.py judges."""

from dataclasses import dataclass, replace
from typing import Literal

from gfm_pretrain.config import RunConfig

WORLDS = (8, 7, 6, 5, 4, 3, 2)
ALL_EDGES = 10**9


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to compute the gradient of a step."""

    heads: int = 5
    """The first ones of the configuration."""
    batch_size: int | None = None
    """Structures of each head in a step; those of the configuration if nothing is said."""
    placement: Literal["wrap-around", "whole-ranks", "everywhere"] = "wrap-around"
    reduction: Literal["overlapped", "sharded", "ddp"] = "overlapped"
    shard_ranks: int | None = None
    dtype: Literal["float64", "float32"] = "float64"
    bucket_bytes: float = 4e6
    edges: int = 60
    """Most edges of a pass."""
    checkpoint: bool = False
    """Whether interactions are computed again, a few edges at a time."""
    frozen: bool = False
    """The backbone."""
    trains: bool = False
    """Whether some steps are taken, too."""

    @property
    def plain(self) -> "Case":
        """What one process computes with nothing to choose, in one pass for each head."""
        return replace(
            self,
            placement="wrap-around",
            reduction="overlapped",
            shard_ranks=None,
            bucket_bytes=4e6,
            edges=ALL_EDGES,
            checkpoint=False,
        )


def cases(n_ranks: int) -> list[Case]:
    """Every reduction and placement with every number of ranks, most pairs of choices with some.

    With 5 and more ranks, and with batches of one structure, some ranks have nothing to do.
    """
    return [
        Case(bucket_bytes=2000),
        Case(heads=8, batch_size=1, reduction="sharded", trains=True),
        Case(heads=1, batch_size=1, placement="everywhere", bucket_bytes=1),
        Case(heads=2, batch_size=1, placement="whole-ranks", reduction="sharded", edges=20),
        Case(heads=2, batch_size=1, placement="everywhere", reduction="ddp"),
        *_several_nodes(n_ranks),
        *THOROUGH.get(n_ranks, []),
    ]


def _several_nodes(n_ranks: int) -> list[Case]:
    divisors = [n for n in range(2, n_ranks) if n_ranks % n == 0]
    return [
        Case(reduction="sharded", shard_ranks=n, edges=ALL_EDGES, trains=n_ranks == 4)
        for n in divisors
    ]


THOROUGH = {
    2: [
        Case(placement="everywhere", reduction="ddp", bucket_bytes=3000, trains=True),
        Case(heads=4, placement="whole-ranks", reduction="sharded", checkpoint=True),
        Case(heads=6, bucket_bytes=1, edges=30, checkpoint=True),
        Case(dtype="float32", reduction="sharded", bucket_bytes=1),
        Case(frozen=True, reduction="ddp", placement="everywhere"),
    ],
    5: [
        Case(heads=3, edges=ALL_EDGES, bucket_bytes=ALL_EDGES),
        Case(heads=8, placement="whole-ranks", bucket_bytes=500, edges=100),
        Case(heads=3, placement="everywhere", reduction="sharded"),
        Case(dtype="float32", reduction="ddp", placement="everywhere", checkpoint=True),
        Case(frozen=True, reduction="sharded", trains=True, checkpoint=True),
    ],
    8: [
        Case(heads=7, placement="everywhere", bucket_bytes=300, trains=True),
        Case(heads=3, placement="everywhere", reduction="ddp", edges=ALL_EDGES, bucket_bytes=1),
        Case(dtype="float32", placement="whole-ranks", edges=ALL_EDGES, checkpoint=True),
        Case(dtype="float32", reduction="sharded", shard_ranks=4),
    ],
}


def cases_of_traffic(n_ranks: int) -> list[Case]:
    """Every reduction, with several passes in a step, on few ranks and many."""
    if n_ranks not in (2, 4, 5):
        return []
    return [
        Case(heads=3, bucket_bytes=1e5),
        Case(heads=3, placement="everywhere"),
        Case(heads=3, placement="everywhere", reduction="ddp"),
        Case(heads=3, reduction="sharded"),
        *([Case(heads=3, reduction="sharded", shard_ranks=2)] if n_ranks == 4 else []),
    ]


def configure(config: RunConfig, case: Case) -> RunConfig:
    """The run that a case is."""
    heads = dict(list(config.heads.items())[: case.heads])
    if case.batch_size is not None:
        heads = {name: replace(h, batch_size=case.batch_size) for name, h in heads.items()}
    training = replace(
        config.training,
        placement=case.placement,
        reduction=case.reduction,
        shard_ranks=case.shard_ranks,
        bucket_megabytes=case.bucket_bytes / 1e6,
        micro_batch_edges=case.edges,
        checkpoint_activations=case.checkpoint,
        checkpoint_edges=20,
        freeze_backbone=case.frozen,
    )
    return replace(config, heads=heads, training=training, dtype=case.dtype)
