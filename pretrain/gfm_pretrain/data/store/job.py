"""What an import was asked to do, kept beside its parts so that the same command continues it."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from gfm_pretrain.configuration import from_mapping, to_mapping
from gfm_pretrain.data.audit.checks import Policy
from gfm_pretrain.data.sources.registry import source_named
from gfm_pretrain.data.sources.source import Source, resolve_options
from gfm_pretrain.data.store.splits import Fractions
from gfm_pretrain.durable import read_sealed, write_sealed

JOB = "import.json"
LOCK = "import.lock"
"""Held by the import that is at work."""
PARTS = "parts"
"""Folder of an unfinished store that holds what its processes wrote."""
OF_PARTS = ("source", "files", "options", "refuse", "keep", "budget")
"""The options that the parts depend on."""


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What a user asks for."""

    source: str
    """Name of the reader."""
    files: tuple[str, ...]
    """Published files, in the order in which they are read."""
    options: dict[str, str] = field(default_factory=dict)
    """Choices that the source offers."""
    refuse: tuple[str, ...] = ()
    """Kinds of finding to leave out that are kept by default."""
    keep: tuple[str, ...] = ()
    """Kinds of finding to keep that are left out by default."""
    budget: int = 500_000
    """Most edges inside the largest radius that a structure may have."""
    fractions: Fractions = field(default_factory=Fractions)
    """How much is set aside where no split is published."""
    reference_energies: dict[str, float] | Literal["auto", "isolated", "fit"] = "auto"
    """E0 by chemical symbol in eV; or from isolated atoms; or by least squares; or `auto`: from
    isolated atoms where there are all, else by least squares."""
    level_of_theory: str = ""
    """Where the source does not say it, or to say it better."""
    description: str = ""
    """The same."""
    licence: str = ""
    """The same."""
    citation: str = ""
    """The same."""

    def __post_init__(self) -> None:
        """Check what can be known before a file is opened.

        Raises:
            ValueError: naming the option.
        """
        if not self.files:
            raise ValueError("give at least one file to import")
        if self.budget < 1:
            raise ValueError(f"budget must be at least 1 edge, got {self.budget}")
        resolve_options(source_named(self.source), self.options)
        Policy.of(refuse=self.refuse, keep=self.keep)


@dataclass(frozen=True, kw_only=True)
class Job:
    """An import that was begun."""

    asked: ImportOptions
    """What for."""
    bytes: dict[str, int]
    """Size of each file."""
    code_version: str
    """Of this package."""

    @property
    def source(self) -> Source:
        """How the files are read."""
        return source_named(self.asked.source)

    @property
    def options(self) -> dict[str, str]:
        """All options of the source."""
        return dict(resolve_options(self.source, self.asked.options))

    @property
    def policy(self) -> Policy:
        """What is done about what is found."""
        return Policy.of(refuse=self.asked.refuse, keep=self.asked.keep)


def new_job(asked: ImportOptions) -> Job:
    """Look at the files.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is given twice, or the level of theory is not known.
    """
    sizes = {}
    for name in asked.files:
        path = Path(name)
        if not path.is_file():
            raise FileNotFoundError(f"no such file: {path}")
        if name in sizes:
            raise ValueError(f"{path} is given twice")
        sizes[name] = path.stat().st_size
    job = Job(asked=asked, bytes=sizes, code_version=version("gfmcalc"))
    if not (asked.level_of_theory or job.source.facts(job.options).level_of_theory):
        raise ValueError(
            f"the level of theory of {asked.source} files is not known: give --level-of-theory, "
            "such as 'PBE/VASP'"
        )
    return job


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other imports out of an unfinished store; one that is killed lets go by itself.

    File systems without locks, and Windows, keep nobody out.

    Raises:
        ValueError: another import is at work in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        if os.name == "posix":
            import fcntl  # posix only

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"another import is at work in {folder}; wait for it") from None
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise
        yield


def begin(folder: Path, job: Job) -> None:
    """Make the folder of an unfinished store, or find it as the same job left it.

    An import that has finished no part yet leaves nothing that another one could not begin with.

    Raises:
        ValueError: another import was begun there.
    """
    path = folder / JOB
    if path.exists() and any((folder / PARTS).glob("*")):
        _check_same(folder, job, from_mapping(Job, read_sealed(path), origin=str(path)))
    (folder / PARTS).mkdir(parents=True, exist_ok=True)
    write_sealed(path, to_mapping(job))


def _check_same(folder: Path, job: Job, begun: Job) -> None:
    """What has made the parts must be the same; what is decided at the end may be another."""
    old, new = begun.asked, job.asked
    differing = [name for name in OF_PARTS if getattr(old, name) != getattr(new, name)]
    if begun.bytes != job.bytes:
        differing.append("contents of the files")
    if differing:
        raise ValueError(
            f"{folder} holds an import that was begun with other {', '.join(differing)}; continue "
            "it with the same command, or delete the folder"
        )
