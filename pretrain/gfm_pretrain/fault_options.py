"""What a configuration says of faults."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FaultOptions:
    """When a run gives itself up."""

    hang_seconds: float = 120.0
    """How long a rank may show no sign of progress while others wait for it. Ten times the longest
    that a rank has taken so far between two signs, where that is more. Set-up and the first step,
    which may compile, have the time limit of messages alone."""

    compare_replicas_every: int = 100
    """Steps between comparisons of the bits of weights that several ranks hold. They are compared
    before every snapshot, too."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: naming the option.
        """
        for name in ("hang_seconds", "compare_replicas_every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"faults.{name} must be positive, got {getattr(self, name)}")
