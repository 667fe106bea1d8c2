"""How a run is watched."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class WandbOptions:
    """Where a run goes in Weights & Biases."""

    project: str
    """Project there."""

    entity: str | None = None
    """User or team that owns the project; by default the one who is logged in."""

    name: str | None = None
    """Of the run; by default that of its folder."""

    mode: Literal["online", "offline"] = "online"
    """`offline` writes into the run's folder, for `wandb sync` from a machine with a network."""


@dataclass(frozen=True, kw_only=True)
class MonitorOptions:
    """How a run is watched. It never changes what is computed, and may change at every resume."""

    every_seconds: float = 15.0
    """Training time between reports of rates, time and memory; the first come sooner."""

    tensorboard: bool = False
    """Whether to write event files for TensorBoard into `tensorboard/` in the run's folder."""

    wandb: WandbOptions | None = None
    """Whether and where to follow the run in Weights & Biases."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: naming the option.
        """
        if not self.every_seconds > 0:
            raise ValueError(f"monitor.every_seconds must be positive, got {self.every_seconds}")
