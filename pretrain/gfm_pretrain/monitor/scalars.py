"""Records as numbers with names, as TensorBoard and Weights & Biases take them."""

from collections.abc import Iterator, Mapping
from typing import Any

NAMES = {
    "train": ("loss", "losses", "gradient_norm", "learning_rate"),
    "rates": (
        *("per_second", "heads", "time_mean", "time_max", "memory_max"),
        *("balance", "bytes_per_step", "seconds_left"),
    ),
    "before": ("heads",),
    "valid": ("heads",),
    "test": ("heads",),
}
"""What is shown of each kind of record; kinds not listed have no numbers."""


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record by name, such as `train/losses/<head>`."""
    kind = record["kind"]
    found: dict[str, float] = {}
    for name in NAMES.get(kind, ()):
        group = kind if name == "heads" else f"{kind}/{name}"
        found |= dict(_flat(group, record.get(name)))
    return found


def _flat(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(f"{name}/{key}", item)
    elif isinstance(value, int | float):
        yield name, float(value)
