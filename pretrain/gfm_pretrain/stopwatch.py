"""Seconds of a step by what they were spent on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up seconds under names; what runs inside another measurement counts there only once."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def take(self) -> dict[str, float]:
        """What was added up since this was last asked for; begin anew."""
        taken, self.seconds = self.seconds, {}
        return taken

    @contextmanager
    def measure(self, activity: str) -> Iterator[None]:
        """Add the time that passes meanwhile to `activity`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - start
            self.seconds[activity] = self.seconds.get(activity, 0.0) + passed
