"""Files that are there whole or not at all, also after a power cut, and JSON that says so."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

UNFINISHED = ".unfinished"
"""Suffix of what is being written."""
REPLACED = ".replaced"
"""Suffix of what a new folder takes the place of."""


def publish_folder(unfinished: Path, final: Path) -> None:
    """Make a folder whose files were flushed visible under its name, in place of an older one.

    A kill at any moment leaves the old or the new one, under its name after `recover`.
    """
    for folder in (unfinished, *(path for path in unfinished.rglob("*") if path.is_dir())):
        flush(folder)
    aside = final.with_name(final.name + REPLACED)
    if final.exists():
        shutil.rmtree(aside, ignore_errors=True)
        final.rename(aside)
    unfinished.rename(final)
    flush(final.parent)
    shutil.rmtree(aside, ignore_errors=True)


def recover(parent: Path) -> None:
    """Finish or take back what a kill left half done among the folders in `parent`."""
    for aside in parent.glob(f"*{REPLACED}"):
        final = aside.with_name(aside.name.removesuffix(REPLACED))
        if final.exists():
            shutil.rmtree(aside)
        else:
            aside.rename(final)
    for unfinished in parent.glob(f"*{UNFINISHED}"):
        if unfinished.is_dir():
            shutil.rmtree(unfinished)


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_sealed(path: Path, facts: Mapping[str, Any]) -> None:
    """Write plain values as JSON with their own SHA-256, whole or not at all."""
    whole = {**facts, "sha256": seal(facts)}
    unfinished = path.with_name(path.name + UNFINISHED)
    unfinished.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    flush(unfinished)
    unfinished.replace(path)
    flush(path.parent)


def read_sealed(path: Path) -> dict[str, Any]:
    """Read what `write_sealed` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not what was written; the message names it.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, IsADirectoryError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(facts, dict) or facts.pop("sha256", None) != seal(facts):
        raise ValueError(f"{path} is damaged: its content does not have the SHA-256 it states")
    return facts


def seal(facts: Mapping[str, Any]) -> str:
    """SHA-256 of plain values, the same in any order of keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
