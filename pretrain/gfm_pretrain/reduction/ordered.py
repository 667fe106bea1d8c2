"""Sums over groups of ranks that are begun in one order, as early as that order allows."""

from collections.abc import Collection, Mapping

from torch import Tensor, nn

from gfm_pretrain.process import Group, World
from gfm_pretrain.reduction.buckets import Bucket, fill_buckets


class OrderedSums:
    """Gradients of parts of the model, each summed over its group of ranks, bucket by bucket.

    A bucket is sent as soon as its last gradient is there. All ranks send in one order, that of
    `parts`, each rank leaving out the parts it does not hold: ranks that share several groups can
    then never wait for one another, with one communicator or with many.

    Args:
        parts: Modules by name, with the ranks that hold them, in an order that is the same on
            every rank.
        world: All ranks.
        bytes_per_bucket: Most bytes of a message with more than one weight.

    Source: Li et al., PyTorch Distributed, VLDB 13, 3005 (2020), for buckets and overlap.
    """

    def __init__(
        self,
        parts: Mapping[str, tuple[nn.Module, Group]],
        world: World,
        *,
        bytes_per_bucket: int,
    ) -> None:
        self.world = world
        self.bytes_sent = 0
        self._buckets: list[tuple[str, Bucket]] = [
            (part, bucket)
            for part, (module, group) in parts.items()
            for bucket in fill_buckets(
                module.parameters(), group, bytes_per_bucket=bytes_per_bucket
            )
        ]
        self._complete: set[str] = set()
        self._sent: list = []
        for part, bucket in self._buckets:
            for parameter in bucket.parameters:
                parameter.register_post_accumulate_grad_hook(self._hook(part, bucket))

    @property
    def n_sent(self) -> int:
        """Buckets of this step that are on their way."""
        return len(self._sent)

    def begin(self) -> None:
        """Set every gradient to zero."""
        for _, bucket in self._buckets:
            bucket.begin()
        self._complete.clear()
        self._sent = []

    def expect_last(self, parts: Collection[str]) -> None:
        """The next backward pass is the last one to add to these parts: send what it finishes."""
        self._complete.update(parts)

    def close(self, parts: Collection[str]) -> None:
        """Nothing will be added to these parts any more."""
        for part, bucket in self._buckets:
            if part in parts:
                bucket.n_waiting = 0
        self._send_ready()

    def finish(self) -> None:
        """Send the rest and wait for all."""
        self.close({part for part, _ in self._buckets})
        for work in self._sent:
            if work is not None:
                work.wait()

    def _hook(self, part: str, bucket: Bucket):
        def note(_: Tensor) -> None:
            if part in self._complete:
                bucket.n_waiting -= 1
                self._send_ready()

        return note

    def _send_ready(self) -> None:
        for _, bucket in self._buckets[len(self._sent) :]:
            if not bucket.is_ready:
                return
            self._sent.append(bucket.start_sum(self.world))
            self.bytes_sent += bucket.bytes_of_ring
