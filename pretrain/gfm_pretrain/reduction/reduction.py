"""What every way of summing gradients over ranks can do."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from jaxtyping import Float
from torch import Tensor

BACKBONE = "backbone"
"""The part of the model that is not a head."""


class Reduction(ABC):
    """Gradients of this rank's structures in, those of the whole global batch out.

    The losses carry the global denominators, so that sums, never averages, give the gradient of
    one process. All methods are called on every rank, in this order in every step:

        reduction.begin(heads)
        with reduction.forward_pass():  loss = …                     # as often as there is work,
            reduction.backward(loss, head, last_of_head=…, last=…)   # on some ranks not at all
        reduction.finish()

    A step is as many passes as a rank's share needs to fit into memory: that is all there is of
    gradient accumulation. A batch of any size is one global batch, whose denominators are counted
    before the first pass; nothing is averaged over passes and no second option multiplies it.
    """

    @property
    @abstractmethod
    def bytes_sent(self) -> int:
        """What this rank has sent for gradients and weights so far, by the formula of the ring."""

    @property
    def pieces_of_backbone(self) -> tuple[str, ...]:
        """Names of the pieces that ranks hold of the backbone, or of the whole."""
        return (BACKBONE,)

    @property
    def piece(self) -> int:
        """Number of the one on this rank."""
        return 0

    @abstractmethod
    def begin(self, heads: Collection[str]) -> None:
        """Set every gradient to zero.

        Args:
            heads: Those that this rank has structures of in this step. The others' gradients on
                this rank, zero, are complete at once and keep nobody waiting.
        """

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

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Let each rank compute with the weights as they are now, as often as it likes.

        Call on every rank. Weights must not be changed meanwhile.
        """
        yield
