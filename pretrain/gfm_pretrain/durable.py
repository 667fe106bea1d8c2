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


def publish_folder(unfinished: Path, final: Path) -> None:
    """Make a folder whose files were flushed visible under its name, in place of an older one."""
    shutil.rmtree(final, ignore_errors=True)
    flush(unfinished)
    unfinished.rename(final)
    flush(final.parent)


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
