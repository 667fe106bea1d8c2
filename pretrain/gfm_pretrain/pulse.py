"""What a rank is doing, noted by its main thread for those who watch it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Activity:
    """What a rank has been doing since its last sign of progress."""

    name: str = "starting"
    """Such as `forward of rmd17`."""
    waits: bool = False
    """Whether it waits for other ranks."""
    number: int = 0
    """Signs of progress so far."""
    since: float = field(default_factory=time.monotonic)
    """When it began, by this machine's monotonic clock."""


class Pulse:
    """The main thread gives signs of progress; other threads read what it does."""

    def __init__(self) -> None:
        self.activity = Activity()
        self.step: int | None = None
        """Steps done; None before the first is under way."""
        self.hurried = False
        """Whether signs of progress are to be expected."""
        self.longest = 0.0
        """Seconds of its own work between two signs of progress, the most so far."""

    def beat(self, name: str, *, waits: bool = False) -> None:
        """A sign of progress: what this rank turns to now."""
        previous = self.activity
        now = time.monotonic()
        if not previous.waits and self.hurried:
            self.longest = max(self.longest, now - previous.since)
        self.activity = Activity(name=name, waits=waits, number=previous.number + 1, since=now)

    def stepped(self, step: int) -> None:
        """A step is done; from now on progress is expected."""
        self.step, self.hurried = step, True

    @contextmanager
    def unhurried(self, name: str) -> Iterator[None]:
        """Do something meanwhile that may take long without a sign of progress."""
        outer, self.hurried = self.hurried, False
        with self.doing(name):
            yield
        self.hurried = outer

    @contextmanager
    def doing(self, name: str, *, waits: bool = False) -> Iterator[None]:
        """Do something meanwhile, and go back to what was done before."""
        outer = self.activity
        self.beat(name, waits=waits)
        yield
        self.beat(outer.name, waits=outer.waits)
