"""Where what lies in the folder of a run.

snapshots/step-00000500/snapshot.json   backbone.safetensors   heads/<name>.safetensors
best/<name>/                            a checkpoint of the head at its best
removed/step-00000500/                  a checkpoint of the heads that left the run there
"""

import re
from pathlib import Path

from gfm_models.checkpoint import BACKBONE_FILE, RUN_BEST, head_file

SNAPSHOTS = "snapshots"
BEST = RUN_BEST
REMOVED = "removed"
MANIFEST = "snapshot.json"
BACKBONE = "backbone"
_HEADS = "heads/"

FORMAT = 2
"""Of a snapshot. 1 had neither a number nor the settings of its run."""


def step_name(step: int) -> str:
    """The folder of a snapshot; in the order of names as in that of steps."""
    return f"step-{step:08d}"


def snapshot_steps(run: Path) -> dict[int, Path]:
    """The snapshots that are there whole, by step, verified or not."""
    found = {}
    for folder in (run / SNAPSHOTS).glob("step-*"):
        if name := re.fullmatch(r"step-(\d{8,})", folder.name):
            found[int(name[1])] = folder
    return found


def head_part(head: str) -> str:
    """The part of the model that a head is."""
    return _HEADS + head


def head_of(part: str) -> str | None:
    """The head that a part is; None for the backbone."""
    return part.removeprefix(_HEADS) if part.startswith(_HEADS) else None


def part_file(part: str) -> str:
    """Where a part lies inside a snapshot: as in a checkpoint."""
    head = head_of(part)
    return BACKBONE_FILE if head is None else head_file(head)
