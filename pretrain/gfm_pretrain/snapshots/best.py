"""The best weights of each head so far, kept as checkpoints that can be published."""

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gfm_models.backbone import BackboneConfig
from gfm_models.checkpoint import BACKBONE_FILE, head_file, read_training, write_config
from gfm_models.heads import HeadConfig
from torch import Tensor

from gfm_pretrain.durable import UNFINISHED, flush, publish_folder
from gfm_pretrain.evaluate import KEY, Metrics
from gfm_pretrain.snapshots.layout import BEST
from gfm_pretrain.snapshots.write import save_tensors

NONE = "none"
COMBINED = "combined"


def judge(errors: Metrics, metric: str) -> float | None:
    """How good a head is, less is better; None where it has no such error.

    `combined` is (∏ MAE)^(1/n) over the kinds of label there are: halving any of them counts the
    same, in whatever unit and however large it is.
    """
    if metric != COMBINED:
        return errors.get(metric)
    found = [errors[key] for key in (k.format("mae") for k in KEY.values()) if key in errors]
    return math.prod(found) ** (1 / len(found)) if found else None


def improved(
    errors: Mapping[str, Metrics], metric: str, best: Mapping[str, float]
) -> dict[str, float]:
    """The heads that are better than ever, and how good."""
    values = {head: judge(of_head, metric) for head, of_head in errors.items()}
    return {
        head: value
        for head, value in values.items()
        if value is not None and value < best.get(head, math.inf)
    }


def read_best(run: Path, metric: str, valid_sha256: Mapping[str, str]) -> dict[str, float]:
    """How good the heads in `best/` are, as far as a new error can be compared with theirs.

    Args:
        run: Folder of the run.
        metric: That errors are judged by now.
        valid_sha256: Of the validation set of each head.
    """
    found: dict[str, float] = {}
    for head, sha256 in valid_sha256.items():
        try:
            training = read_training(run / BEST / head)
            best = training["best"]
            judged_on = training["heads"][head]["data"]["valid"]["sha256"]
        except (OSError, ValueError, KeyError):
            continue  # there is none, or it is damaged: any error is better
        if best["metric"] == metric and judged_on == sha256:
            found[head] = best["value"]
    return found


def write_weights(
    run: Path,
    heads: Sequence[str],
    *,
    backbone: Mapping[str, Tensor] | None,
    mine: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """Write what this rank has of the checkpoints of `heads`.

    Args:
        run: Folder of the run.
        heads: Those that are better than ever, the same on every rank.
        backbone: Averaged weights, on the rank that writes them.
        mine: Averaged weights of those of `heads` that this rank writes.
    """
    for head, weights in mine.items():
        save_tensors(_unfinished(run, head) / head_file(head), weights)
    if backbone is not None:
        first, *others = (_unfinished(run, head) / BACKBONE_FILE for head in heads)
        save_tensors(first, backbone)
        for other in others:
            _link(first, other)


def commit_best(
    run: Path,
    *,
    backbone: BackboneConfig,
    heads: Mapping[str, HeadConfig],
    training: Mapping[str, Mapping[str, Any]],
) -> None:
    """Turn what all ranks have written into one checkpoint for each head.

    Args:
        run: Folder of the run.
        backbone: Architecture.
        heads: Descriptions of those that are better than ever.
        training: By head, what goes into its `training.json`.
    """
    for head, config in heads.items():
        unfinished = _unfinished(run, head)
        write_config(unfinished, backbone=backbone, heads={head: config}, training=training[head])
        for path in unfinished.glob("*.json"):
            flush(path)
        publish_folder(unfinished, run / BEST / head)


def _unfinished(run: Path, head: str) -> Path:
    return run / BEST / f"{head}{UNFINISHED}"


def _link(source: Path, target: Path) -> None:
    """The same file under a second name; a copy where the file system knows no such thing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        flush(target)
