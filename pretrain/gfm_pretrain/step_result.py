"""What a training step was, for those who watch a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gfm_pretrain.culprits import Culprit
from gfm_pretrain.data.feed import Size
from gfm_pretrain.guard import Trouble


@dataclass(frozen=True, kw_only=True, eq=False)
class StepResult:
    """What a step was, the same on every rank."""

    step: int
    """Steps that are done, this one included."""
    losses: Mapping[str, float]
    """Of every head that had structures in this step, unweighted."""
    gradient_norm: float
    """Of the whole model, before clipping."""
    learning_rate: float
    """Of this step."""
    sizes: Mapping[str, Size]
    """How much of each head was trained on, over all ranks."""
    balance: float
    """Mean over largest cost of the ranks; 1 is perfect."""
    seconds: Mapping[str, float]
    """Mean over ranks by activity, see `agreement.ACTIVITIES`."""
    bytes_sent: float
    """For gradients in this step, mean over ranks."""
    stop: bool
    """Whether some rank was asked to stop."""
    troubles: Sequence[Trouble] = ()
    """Why the weights stayed as they were; empty if they moved."""
    culprits: Sequence[Culprit] = ()
    """The structures behind it, the worst first."""
    written: bool = False
    """Whether all ranks have written their part of a snapshot, so that it can be settled."""
