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
        if self.placement == "everywhere":
            return dict.fromkeys(workload.heads, tuple(range(n_ranks)))
        return workload.place(n_ranks, method=self.placement)

    def n_shards(self, n_ranks: int, ranks_per_node: int) -> int:
        """Ranks that hold one backbone together: a node, if there is a whole one."""
        return min(n_ranks, ranks_per_node) if self.sharded else 1


STRATEGIES: Mapping[str, Strategy] = {
    "ddp": Strategy(title="DDP, all heads on every rank", placement="everywhere"),
    "wrap-around": Strategy(title="multi-task parallel, wrap-around", placement="wrap-around"),
    "whole-ranks": Strategy(title="multi-task parallel, whole ranks", placement="whole-ranks"),
    "sharded": Strategy(
        title="multi-task parallel, backbone sharded", placement="wrap-around", sharded=True
    ),
}
"""By the names of the command line."""
