"""One step as a sequence of events on every rank: passes, and sums that begin when all are ready.

Ranks compute their passes one after the other, heads in the order of the run. A bucket of gradients
is complete on a rank at some moment of its last pass; its sum begins when it is complete on all
ranks of the group and what they sent before is done, and takes what `network` says. The step ends
with the message by which ranks agree, and the update of the weights.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from gfm_pretrain.cost import StepCost
from gfm_pretrain.plan.dealing import Dealt
from gfm_pretrain.plan.machine import Hardware
from gfm_pretrain.plan.memory import parameters_held
from gfm_pretrain.plan.network import all_reduce_seconds, gather_seconds
from gfm_pretrain.plan.pass_profile import PassProfile
from gfm_pretrain.plan.strategy import Strategy
from gfm_pretrain.plan.workload import Owners, Workload

NUMBERS_MOVED = 12
"""Numbers read and written for each parameter by clipping, AdamW and the average."""
NUMBERS_AGREED = 8
"""Doubles in the message that ends a step, besides two for each head."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Simulator:
    """Everything that is the same in every step of a run on some machine."""

    workload: Workload
    """The run."""
    strategy: Strategy
    """Where heads are, and whether the backbone is sharded."""
    owners: Owners
    """Of the heads."""
    n_ranks: int
    """Number of ranks."""
    cost: StepCost
    """Of passes, atoms and edges, on what `hardware.rate` compares with."""
    hardware: Hardware
    """What it runs on."""
    profile: PassProfile
    """What a pass is like inside."""

    @property
    def n_shards(self) -> int:
        """Ranks that hold one backbone together."""
        return self.strategy.n_shards(self.n_ranks, self.hardware.network.ranks_per_node)

    def run(self, dealt: Dealt, noise: Float[np.ndarray, " ranks"] | float = 1.0) -> "StepTimes":
        """Play one step.

        Args:
            dealt: What each rank has to do.
            noise: How many times as long as it should each rank computes.
        """
        network = self.hardware.network
        gathered = self._gather_seconds()
        passes = self._passes(dealt, noise, start=gathered)
        free, busy = np.full(self.n_ranks, gathered), gathered
        for row, (name, ranks) in enumerate(self.owners.items()):
            members = slice(ranks[0], ranks[-1] + 1)  # neighbours, see `place_heads`
            for n_bytes, part in zip(
                self.workload.heads[name].size.buckets, self.profile.ready_head, strict=True
            ):
                ready = passes.ready_head(row, part)[members]
                seconds = all_reduce_seconds(network, n_bytes, len(ranks))
                if seconds:
                    free[members] = max(ready.max(), free[members].max()) + seconds
                    busy += seconds * len(ranks) / self.n_ranks
        for n_bytes, part in self._backbone_messages():
            seconds = self._backbone_seconds(n_bytes)
            free[:] = max(passes.ready_backbone(part).max(), free.max()) + seconds
            busy += seconds
        computed = float(passes.total.max())
        reduced = max(float(free.max()), computed)
        agreed = 8 * (NUMBERS_AGREED + 2 * len(self.owners))
        end = reduced + all_reduce_seconds(network, agreed, self.n_ranks) + self._update_seconds()
        return StepTimes(
            seconds=end,
            compute=float(passes.total.mean()) - gathered,
            slowest=computed - gathered,
            communication=busy,
            exposed=reduced - computed + gathered,
        )

    def _passes(
        self, dealt: Dealt, noise: Float[np.ndarray, " ranks"] | float, *, start: float
    ) -> "_Passes":
        n_passes, n_atoms, n_edges = dealt.n_passes, dealt.n_atoms, dealt.n_edges
        if self.strategy.placement == "everywhere":  # one network takes structures of all heads
            n_atoms, n_edges = n_atoms.sum(0, keepdims=True), n_edges.sum(0, keepdims=True)
            n_passes = np.ceil(n_edges / self.workload.micro_batch_edges)
            n_passes = np.maximum(n_passes, n_atoms > 0)
        each = self.cost.per_pass / self.hardware.pass_rate
        sizes = self.cost.per_atom * n_atoms + self.cost.per_edge * n_edges
        seconds = (n_passes * each + sizes / self.hardware.rate) * noise
        return _Passes(
            start=start,
            seconds=seconds,
            of_one=seconds / np.maximum(n_passes, 1),
            backward=self.profile.backward_part,
            shared=self.strategy.placement == "everywhere",
        )

    def _gather_seconds(self) -> float:
        """Gathering a sharded backbone, before the first pass of a step."""
        weights = self.workload.backbone.n_parameters * self.workload.dtype.itemsize
        return gather_seconds(self.hardware.network, weights, self.n_shards)

    def _backbone_messages(self) -> list[tuple[float, float]]:
        """Bytes of each sum, and after which part of a backward pass it may begin.

        A sharded backbone is summed in one piece when all passes are done.
        """
        if self.n_shards > 1:
            return [(self.workload.backbone.gradient_bytes, 1.0)]
        return list(zip(self.workload.backbone.buckets, self.profile.ready_backbone, strict=True))

    def _backbone_seconds(self, n_bytes: float) -> float:
        network, n_shards = self.hardware.network, self.n_shards
        replicas = max(1, self.n_ranks // n_shards)
        scattered = gather_seconds(network, n_bytes, n_shards)
        return scattered + all_reduce_seconds(
            network, n_bytes / n_shards, replicas, stride=n_shards
        )

    def _update_seconds(self) -> float:
        """Moving the weights of the rank that holds most."""
        held = parameters_held(
            self.workload, self.owners, n_ranks=self.n_ranks, n_shards=self.n_shards
        )
        n_bytes = NUMBERS_MOVED * self.workload.dtype.itemsize * int(held.max())
        return n_bytes / self.hardware.memory_bandwidth


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """How a step went."""

    seconds: float
    """From beginning to end."""
    compute: float
    """Mean over ranks of the seconds of their passes."""
    slowest: float
    """The same of the slowest rank."""
    communication: float
    """Mean over ranks of the seconds that their sums took, hidden or not."""
    exposed: float
    """Seconds between the end of the last rank's passes and of the last sum."""

    @property
    def balance(self) -> float:
        """Mean over maximal compute time."""
        return self.compute / self.slowest if self.slowest else 1.0

    @property
    def efficiency(self) -> float:
        """Part of the step that ranks compute in, on average."""
        return self.compute / self.seconds

    @property
    def wait(self) -> float:
        """Mean over ranks of the seconds in which they wait for slower ones."""
        return self.slowest - self.compute


@dataclass(frozen=True, kw_only=True, eq=False)
class _Passes:
    """When what each rank computes is done."""

    start: float
    """When the first passes begin."""
    seconds: Float[np.ndarray, "heads ranks"]
    """Of all passes of a head."""
    of_one: Float[np.ndarray, "heads ranks"]
    """Of one of them."""
    backward: float
    """Part of it that is the backward pass of the loss."""
    shared: bool
    """Whether a pass has structures of all heads."""

    @property
    def total(self) -> Float[np.ndarray, " ranks"]:
        """End of the last pass of each rank."""
        return self.start + self.seconds.sum(0)

    def ready_head(self, row: int, part: float) -> Float[np.ndarray, " ranks"]:
        """When a gradient of a head is complete on each rank.

        A rank without structures of the head says so at the beginning.
        """
        if self.shared:
            return self.ready_backbone(part)
        end = self.start + self.seconds[: row + 1].sum(0)
        ready = end - self.backward * (1 - part) * self.of_one[row]
        return np.where(self.of_one[row] > 0, ready, self.start)

    def ready_backbone(self, part: float) -> Float[np.ndarray, " ranks"]:
        """When a gradient of the backbone is complete on each rank."""
        ranks = np.arange(self.of_one.shape[1])
        last = len(self.of_one) - 1 - (self.of_one[::-1] > 0).argmax(0)
        return self.total - self.backward * (1 - part) * self.of_one[last, ranks]
