"""Find the snapshot to continue from, and read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfm_models.checkpoint import file_sha256
from safetensors.torch import load_file
from torch import Tensor

from gfm_pretrain.durable import read_sealed
from gfm_pretrain.snapshots.layout import FORMAT, MANIFEST, part_file, snapshot_steps


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A snapshot whose files all have the SHA-256 they should have."""

    folder: Path
    """Where it is."""
    facts: Mapping[str, Any]
    """What its manifest says: `step`, and what the run put there."""
    damaged: tuple[str, ...] = ()
    """Newer ones that were passed over, each with what is wrong with it."""

    @property
    def step(self) -> int:
        """Steps that were done."""
        return self.facts["step"]


def newest_snapshot(run: Path) -> Snapshot | None:
    """The snapshot with most steps whose files verify; None if there are no snapshots at all.

    Raises:
        ValueError: there are some, and none verifies; or another version wrote the newest one.
    """
    damaged: list[str] = []
    for _, folder in sorted(snapshot_steps(run).items(), reverse=True):
        try:
            facts = read_sealed(folder / MANIFEST)
        except (OSError, ValueError):
            damaged.append(f"{folder.name}: {MANIFEST} is missing or damaged")
            continue
        _check_version(folder, facts)
        wrong = _damage(folder, facts["files"])
        if wrong is None:
            return Snapshot(folder=folder, facts=facts, damaged=tuple(damaged))
        damaged.append(f"{folder.name}: {wrong}")
    if damaged:
        raise ValueError(
            f"no snapshot of {run} can be read ({'; '.join(damaged)}); put one back from a copy, "
            "or choose another folder with run=FOLDER to begin anew"
        )
    return None


def read_parts(folder: Path, parts: Mapping[str, str]) -> dict[str, dict[str, Tensor]]:
    """The state of some parts, each by its own name, from the part of the snapshot it maps to."""
    return {part: load_file(folder / part_file(written)) for part, written in parts.items()}


def _check_version(folder: Path, facts: Mapping[str, Any]) -> None:
    if (version := facts.get("format", 1)) != FORMAT:
        raise ValueError(
            f"{folder} was written by another version of gfmcalc (snapshot format {version}, this "
            f"one reads {FORMAT}); continue with that version, or choose another folder with "
            "run=FOLDER"
        )


def _damage(folder: Path, files: Mapping[str, str]) -> str | None:
    for name, sha256 in files.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if file_sha256(folder / name) != sha256:
            return f"{name} does not have its SHA-256"
    return None
