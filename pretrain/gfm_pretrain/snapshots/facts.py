"""Plain values in a snapshot beside the weights, each part of the program its own."""

from collections.abc import Mapping
from typing import Any, Protocol

from gfm_models.heads import HeadConfig

MEANING = ("reference_energies", "scales", "width")
"""What the weights of a head mean something with; the rest describes it for people."""


class Remembered(Protocol):
    """Something that a run has found out and has to know again when it is continued.

    Put it into `Trainer.remembered` under a name of its own before the run is restored.
    """

    def facts(self) -> Any:
        """Values that JSON can hold, the same on every rank."""
        ...

    def restore(self, facts: Any) -> None:
        """Take back what `facts` gave, maybe with other heads; not called where there was none."""
        ...


def restore_remembered(remembered: Mapping[str, Remembered], facts: Mapping[str, Any]) -> None:
    """Give back what was kept under each name; names that are not known any more are left out."""
    for name, of in remembered.items():
        if name in facts:
            of.restore(facts[name])


def check_descriptions(old: Mapping[str, Any], new: Mapping[str, HeadConfig]) -> None:
    """Make sure that the weights of the heads that go on mean what they meant.

    Raises:
        ValueError: naming what differs.
    """
    different = [
        f"{name} ({key})"
        for name, config in new.items()
        for key in MEANING
        if name in old and old[name][key] != getattr(config, key)
    ]
    if different:
        raise ValueError(
            f"the data or the base model give other values than when the run began, for head "
            f"{', '.join(different)}; put back what it was made from, or choose another folder "
            "with run=FOLDER"
        )
