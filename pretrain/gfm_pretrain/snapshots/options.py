"""When snapshots are taken and kept, and what may change when a run is continued."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Metric = Literal[
    "combined",
    "energy_mae_per_atom",
    "energy_rmse_per_atom",
    "forces_mae",
    "forces_rmse",
    "stress_mae",
    "stress_rmse",
    "none",
]
Word = Literal["mixture", "loss", "optimizer", "precision", "heads"]


@dataclass(frozen=True, kw_only=True)
class SnapshotOptions:
    """When the state of a run is written, how much of it is kept, and which heads were best."""

    every_steps: int | None = 500
    """Steps between snapshots; there is one at the end in any case."""

    every_minutes: float | None = None
    """Minutes of training after which there is one at the latest, too."""

    keep_last: int = 2
    """How many are kept, the newest ones."""

    keep_every_steps: int | None = None
    """Milestones: the first snapshot at or after each multiple of this is kept for ever."""

    best: Metric = "combined"
    """Error on the validation set by which the best weights of each head are kept in `best/`:
    `combined` is the geometric mean of the mean absolute errors of energy, forces and stress, as
    far as a head has them, so that no unit and no scale matters; or one error; or `none`."""

    background: bool = True
    """Write while training goes on. It changes speed, never what is written."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: naming the option.
        """
        for name in ("every_steps", "every_minutes", "keep_last", "keep_every_steps"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"snapshots.{name} must be positive, got {value}")


@dataclass(frozen=True, kw_only=True)
class ResumeOptions:
    """What a run that is continued may do differently."""

    rename: Mapping[str, str] = field(default_factory=dict)
    """Old name of a head: new name. It goes on as if it had always been called so; what is renamed
    already stays as it is."""

    accept: tuple[Word, ...] = ()
    """Changes of settings that make the rest of the run another one, and are meant: `mixture`
    (batch sizes), `loss` (its weights and those of heads), `optimizer` (learning rate, decay,
    clipping, averaging, a frozen backbone), `precision`, `heads` (a new head with the data of one
    that leaves)."""
