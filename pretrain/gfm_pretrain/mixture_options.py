"""What a configuration says of the mixture of heads."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class MixtureOptions:
    """How much of each head there is in a step, and what an epoch is."""

    by: Literal["explicit", "size", "temperature"] = "explicit"
    """Who says how many structures of a head a step has: its `batch_size`; the size of its
    training set; or this size to the power 1/temperature."""

    batch_size: int | None = None
    """Structures in every step on average, over all heads and ranks; not with `explicit`."""

    temperature: float = 1.0
    """1 is by size; the larger, the more alike are small and large sets."""

    epoch: str = "largest"
    """What one epoch is. `largest`: until every structure of every head was seen, so that the
    head that takes longest is through; `smallest`: until the first head is through; `all`: as many
    structures as all heads have together; or the name of the head that has to be through."""

    def __post_init__(self) -> None:
        """Check what depends on `by`.

        Raises:
            ValueError: naming the option.
        """
        if (self.by == "explicit") != (self.batch_size is None):
            found = "is missing" if self.batch_size is None else "cannot be given"
            raise ValueError(
                f"mixture.batch_size {found} with mixture.by={self.by}: heads have a batch_size of "
                "their own with explicit, and share this one with size or temperature"
            )
        if not (math.isfinite(self.temperature) and self.temperature >= 1):
            raise ValueError(f"mixture.temperature must be at least 1, got {self.temperature}")
        if self.by != "temperature" and self.temperature != 1:
            raise ValueError(
                f"mixture.temperature={self.temperature} goes with mixture.by=temperature, "
                f"got by={self.by}"
            )
