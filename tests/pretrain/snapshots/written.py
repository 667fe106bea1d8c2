"""Small snapshots for the tests of their parts."""

import json
from pathlib import Path
from typing import Any

import torch
from gfm_pretrain.durable import read_sealed, write_sealed
from gfm_pretrain.process import World
from gfm_pretrain.snapshots.options import SnapshotOptions
from gfm_pretrain.snapshots.read import newest_snapshot
from gfm_pretrain.snapshots.write import commit_snapshot, write_parts

ALONE = World(
    rank=0, size=1, local_rank=0, local_size=1, launcher="single", device=torch.device("cpu")
)
FACTS: dict[str, Any] = {"seconds": 0.1 + 0.2, "before": {"a": {"forces_mae": 1e-3}}}


def parts(step: int) -> dict[str, dict[str, torch.Tensor]]:
    return {
        "backbone": {"weight/w": torch.full((3, 2), float(step)), "step/w": torch.tensor(1.0)},
        "heads/a": {"weight/w": torch.full((2,), -float(step), dtype=torch.float64)},
    }


def write(run: Path, step: int, *, keep: int = 9) -> Path:
    files = write_parts(run, step, parts(step))
    options = SnapshotOptions(keep_last=keep)
    return commit_snapshot(run, step, files=files, facts=FACTS, options=options)


def newest_step(run: Path) -> int:
    found = newest_snapshot(run)
    assert found is not None
    return found.step


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def change_manifest(folder: Path, **changes: Any) -> None:
    """As another program would have written it, seal and all."""
    facts = {**read_sealed(folder / "snapshot.json"), **changes}
    write_sealed(folder / "snapshot.json", json.loads(json.dumps(facts)))
