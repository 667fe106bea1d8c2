"""What every way of summing gradients over ranks can do."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from jaxtyping import Float
from torch import Tensor


class Reduction(ABC):
    """Gradients of this rank's structures in, those of the whole global batch out.

    The losses carry the global denominators, so that sums, never averages, give the gradient of
    one process. All methods are called on every rank, in this order in every step:

        reduction.begin()
        with reduction.forward_pass():  loss = …                     # as often as there is work,
            reduction.backward(loss, head, last_of_head=…, last=…)   # on some ranks not at all
        reduction.finish()
    """

    bytes_sent: int = 0
    """What this rank has sent for gradients so far, by the formula of the ring."""

    @abstractmethod
    def begin(self) -> None:
        """Set every gradient to zero."""

    @contextmanager
    def forward_pass(self) -> Iterator[None]:
        """Surround what makes a loss, the derivatives for forces included."""
        yield

    @abstractmethod
    def backward(
        self, loss: Float[Tensor, ""], head: str, *, last_of_head: bool, last: bool
    ) -> None:
        """Add the gradient of a part of a head's loss.

        Args:
            loss: Of some structures of `head`, with its weight and global denominators.
            head: The only one whose weights `loss` depends on. Heads come one after the other, in
                the order of the run.
            last_of_head: Whether no other part of this head follows in this step.
            last: Whether nothing follows on this rank.
        """

    @abstractmethod
    def finish(self) -> None:
        """Wait until every gradient is the sum over the ranks that hold the weight."""

    @abstractmethod
    def squared_norms(self) -> dict[str, Float[Tensor, ""]]:
        """This rank's share of the squared norm of the gradient of each part of the model.

        Summed over all ranks they count the backbone once and each head once. Parts are
        `backbone` and the names of heads; those that others count are missing.
        """
