"""How a run goes on from a snapshot: as it was, or with other heads, or not at all."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from gfm_models.checkpoint import file_sha256, read_config

from gfm_pretrain.config import RunConfig
from gfm_pretrain.configuration import to_mapping
from gfm_pretrain.data.heads import data_file
from gfm_pretrain.data.store.manifest import SPLITS
from gfm_pretrain.head_options import HeadOptions
from gfm_pretrain.snapshots.differences import (
    REFUSED,
    Difference,
    changed_settings,
    problem_with,
)
from gfm_pretrain.snapshots.layout import BACKBONE, head_of, head_part
from gfm_pretrain.snapshots.read import Snapshot

BY_HEAD = ("heads", "before")
"""Facts that have an entry for each head."""


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """What a run goes on from."""

    snapshot: Snapshot
    """Of the run; its facts use the names that heads have now."""
    written_as: Mapping[str, str]
    """Names in the snapshot's files of the heads that go on."""
    removed: tuple[str, ...]
    """Heads of the snapshot that the run has no more."""
    changes: tuple[str, ...]
    """What is different from now on, for the log."""

    def parts(self, mine: list[str]) -> dict[str, str]:
        """Of the parts a rank has those that go on, and what they are in the snapshot."""
        found = {part: self._written(part) for part in mine}
        return {part: written for part, written in found.items() if written is not None}

    def _written(self, part: str) -> str | None:
        head = head_of(part)
        if head is None:
            return BACKBONE
        return head_part(self.written_as[head]) if head in self.written_as else None


def continue_from(snapshot: Snapshot, config: RunConfig) -> Continuation:
    """Compare a snapshot with what is asked for now.

    Raises:
        ValueError: it cannot be continued; everything that keeps it from that, in one line.
    """
    new_names = _new_names(snapshot.facts["heads"], config)
    written_as = {new: old for old, new in new_names.items() if new in config.heads}
    facts = _renamed(snapshot.facts, new_names)
    removed = tuple(old for old, new in new_names.items() if new not in config.heads)
    differences = [
        *changed_settings(facts["config"], to_mapping(config)),
        *_changed_architecture(facts, config),
        *_changed_data(facts, config, written_as),
        *_exchanged(snapshot.facts, config, written_as, removed),
    ]
    problem = problem_with(
        differences, config.resume.accept, run=Path(config.run), step=snapshot.step
    )
    if problem is not None:
        raise ValueError(problem)
    return Continuation(
        snapshot=replace(snapshot, facts=facts),
        written_as=written_as,
        removed=removed,
        changes=(
            *(f"head {old} is now called {new}" for new, old in written_as.items() if old != new),
            *(f"head {name} joins" for name in config.heads if name not in written_as),
            *(f"head {name} leaves" for name in removed),
            *(str(d) for d in differences if not fnmatchcase(d.name, "resume.*")),
        ),
    )


def _new_names(heads: Mapping[str, Any], config: RunConfig) -> dict[str, str]:
    """What each head of the snapshot is called now; renaming again does nothing."""
    rename = config.resume.rename
    return {name: rename[name] if rename.get(name, name) not in heads else name for name in heads}


def _renamed(facts: Mapping[str, Any], new_names: Mapping[str, str]) -> dict[str, Any]:
    def by_new_name(of_heads: Mapping[str, Any]) -> dict[str, Any]:
        return {new_names.get(name, name): value for name, value in of_heads.items()}

    data = {
        f"{new_names.get(head, head)}/{split}": sha256
        for head, split, sha256 in _by_split(facts["data"])
    }
    config = {**facts["config"], "heads": by_new_name(facts["config"]["heads"])}
    of_heads = {name: by_new_name(facts[name]) for name in BY_HEAD if name in facts}
    return {**facts, **of_heads, "data": data, "config": config}


def _by_split(data: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for name, sha256 in data.items():
        head, split = name.rsplit("/", 1)
        yield head, split, sha256


def _changed_architecture(facts: Mapping[str, Any], config: RunConfig) -> Iterator[Difference]:
    old = facts["architecture"]
    if config.init_from is None:
        new = to_mapping(config.architecture)
    else:
        new = read_config(Path(config.init_from))["architecture"]
    for name, value in new.items():
        if name in old and old[name] != value:
            yield Difference(name=f"model.{name}", old=old[name], new=value, fate=REFUSED)


def _changed_data(
    facts: Mapping[str, Any], config: RunConfig, written_as: Mapping[str, str]
) -> Iterator[Difference]:
    """What the files of heads that go on contain; where they lie does not matter."""
    for head, split, old in _by_split(facts["data"]):
        new = data_sha256(config.heads[head], split) if head in written_as else None
        if new not in (None, old):
            yield Difference(
                name=f"data of {head}/{split}", old=old[:12], new=new[:12], fate=REFUSED
            )


def data_sha256(options: HeadOptions, split: str) -> str | None:
    """SHA-256 of the file of a split, of a store that of its manifest; None if there is none."""
    path = data_file(options, split)
    return file_sha256(path) if path is not None and path.is_file() else None


def _exchanged(
    facts: Mapping[str, Any],
    config: RunConfig,
    written_as: Mapping[str, str],
    removed: tuple[str, ...],
) -> Iterator[Difference]:
    """New heads with the data of one that leaves: likely it was meant to be renamed."""
    left = {facts["data"].get(f"{name}/{SPLITS[0]}"): name for name in removed}
    for name, options in config.heads.items():
        old = left.get(data_sha256(options, SPLITS[0])) if name not in written_as else None
        if old is not None:
            yield Difference(
                name=f"resume.rename={{{old}: {name}}} not given, head",
                old=old,
                new=f"{name}, begun anew",
                fate="heads",
            )
