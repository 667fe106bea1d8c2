"""How far an import is: read from the parts that its processes have finished."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from gfm_pretrain.data.store.job import Job
from gfm_pretrain.data.store.parts import PART, read_part

POLL_SECONDS = 1.0
LINE_SECONDS = 30.0
"""Between two lines where the output is no terminal."""


@dataclass(eq=False)
class PartsDone:
    """What the finished parts add up to; `look` takes in the new ones."""

    folder: Path
    """Of the parts."""
    file_bytes: tuple[int, ...]
    """Size of each file."""
    n_structures: int = 0
    seen: set[str] = field(default_factory=set)
    done: dict[int, float] = field(default_factory=dict)
    """By number of the file, how much of it has been read."""

    def look(self) -> None:
        """Read the parts that have appeared."""
        for part in sorted(self.folder.iterdir()):
            if part.suffix or part.name in self.seen or not (part / PART).exists():
                continue
            self.seen.add(part.name)
            facts, number = read_part(part), int(part.name.split("-")[0])
            self.n_structures += facts["n_structures"]
            self.done[number] = max(self.done.get(number, 0.0), facts["done"])

    @property
    def fraction(self) -> float:
        """Part of all bytes that has been read."""
        read = sum(done * self.file_bytes[number] for number, done in self.done.items())
        return read / max(1, sum(self.file_bytes))


@dataclass(kw_only=True)
class Rate:
    """Speed since this process began, which may be late in the import."""

    n_structures: int
    fraction: float
    seconds: float = field(default_factory=time.monotonic)

    def describe(self, parts: PartsDone) -> str:
        """Structures, structures per second, and time left, in words."""
        seconds = time.monotonic() - self.seconds
        text = f"{parts.n_structures:,} structures"
        if parts.fraction <= self.fraction:
            return text
        rate = (parts.n_structures - self.n_structures) / seconds
        left = (1 - parts.fraction) * seconds / (parts.fraction - self.fraction)
        return f"{text}, {rate:,.0f}/s, {duration(left)} left"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds as `1:02:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


@contextmanager
def showing_progress(folder: Path, job: Job, *, speaks: bool) -> Iterator[None]:
    """Show the progress of an import on stderr while its parts are written.

    Args:
        folder: Of the parts.
        job: The import.
        speaks: Whether this rank shows anything.
    """
    if not speaks:
        yield
        return
    parts = PartsDone(folder, tuple(job.bytes.values()))
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(parts, stop), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


@contextmanager
def showing_work(text: str) -> Iterator[None]:
    """Say on stderr what is being done, with a sign of life on a terminal."""
    with _console().status(text) if _console().is_terminal else _line(text):
        yield


@contextmanager
def _line(text: str) -> Iterator[None]:
    _console().print(text)
    yield


def _watch(parts: PartsDone, stop: threading.Event) -> None:
    """Look at the parts every second until it is over, and once more then."""
    parts.look()
    rate = Rate(n_structures=parts.n_structures, fraction=parts.fraction)
    shown = time.monotonic()
    with _bar() as bar:
        task = bar.add_task("import", total=1.0, text="")
        over = False
        while not over:
            over = stop.wait(POLL_SECONDS)
            parts.look()
            text = rate.describe(parts)
            bar.update(task, completed=parts.fraction, text=text)
            if not bar.console.is_terminal and (over or time.monotonic() - shown > LINE_SECONDS):
                shown = time.monotonic()
                bar.console.print(f"import {parts.fraction:.1%}: {text}")


def _bar() -> Progress:
    console = _console()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>5.1f} %"),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _console() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)
