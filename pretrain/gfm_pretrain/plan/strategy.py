"""Ways to train one model on many ranks, which a plan compares."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gfm_pretrain.plan.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """Where heads are, and whether the backbone is in one piece."""

    title: str
    """For tables and pictures."""
    placement: Literal["everywhere", "wrap-around", "whole-ranks"]
    """How heads are laid on ranks."""
    sharded: bool = False
    """Whether the ranks of a node hold one backbone together."""

    def owners(self, workload: Workload, n_ranks: int) -> dict[str, tuple[int, ...]]:
        """Ranks that own each head."""
        return workload.place(n_ranks, method=self.placement)

    def n_shards(self, n_ranks: int, ranks_per_node: int) -> int:
        """Ranks that hold one backbone together: a node, or as many of it as divide all ranks."""
        if not self.sharded:
            return 1
        return max(n for n in range(1, ranks_per_node + 1) if n_ranks % n == 0)


STRATEGIES: Mapping[str, Strategy] = {
    "ddp": Strategy(title="DDP, all heads on every rank", placement="everywhere"),
    "wrap-around": Strategy(title="multi-task parallel, wrap-around", placement="wrap-around"),
    "whole-ranks": Strategy(title="multi-task parallel, whole ranks", placement="whole-ranks"),
    "sharded": Strategy(
        title="multi-task parallel, backbone sharded", placement="wrap-around", sharded=True
    ),
}
"""By the names of the command line."""
