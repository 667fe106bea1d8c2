"""A small run of five fidelities, cut from the samples in `data/`, with some labels missing."""

import gzip
import math
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

SAMPLES = Path(__file__).resolve().parents[2] / "data"
MOST_ATOMS = {"wb97x": 12, "rmd17": 9, "mlearn": 26, "monbtaw": 16, "qm22_formic_dimer": 10}
SMALLEST_FORCE = 0.05
"""eV/Å"""
LEVELS = {
    "wb97x": "wB97X/6-31G(d)",
    "rmd17": "PBE/def2-SVP",
    "mlearn": "PBE/VASP",
    "monbtaw": "PBE/VASP",
    "qm22_formic_dimer": "CCSD(T)",
}
N_TRAIN = {"wb97x": 7, "rmd17": 5, "mlearn": 4, "monbtaw": 6, "qm22_formic_dimer": 4}
BATCH_SIZES = {"wb97x": 3, "rmd17": 2, "mlearn": 1, "monbtaw": 4, "qm22_formic_dimer": 2}
N_VALID = 3


def write_run(folder: Path, **changes: Any) -> Path:
    """Write data and a configuration into `folder`; the configuration's path."""
    for name in LEVELS:
        write_head(folder, name)
    mapping = {**run_mapping(folder), **changes}
    return write_yaml(folder / "run.yaml", mapping)


def write_yaml(path: Path, mapping: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(mapping, sort_keys=False), encoding="utf-8")
    return path


def run_mapping(folder: Path) -> dict[str, Any]:
    return {
        "run": str(folder / "run"),
        "dtype": "float64",
        "device": "cpu",
        "seed": 3,
        "model": {
            "channels": 4,
            "l_max": 2,
            "correlation": 3,
            "cutoff": 3.2,
            "n_radial": 4,
            "radial_hidden": [6],
            "element_channels": 4,
            "mean_neighbors": 8.0,
            "repulsion_reach": 1.0,  # so that pairs feel it, and losses are of order one
        },
        "heads": {name: head_mapping(folder, name) for name in LEVELS},
        "training": {
            "steps": 6,
            "warmup_steps": 2,
            "learning_rate": 0.02,
            "clip_norm": 0.05,
            "ema_decay": 0.9,
            "micro_batch_edges": 60,
            "validate_every": 3,
            "cost_of_atom": 4.0,
            "cost_of_pass": 0.0,
        },
        "snapshots": {"every_steps": 3},
    }


def head_mapping(folder: Path, name: str) -> dict[str, Any]:
    return {
        "train": str(folder / f"{name}-train.extxyz"),
        "valid": str(folder / f"{name}-valid.extxyz"),
        "level_of_theory": LEVELS[name],
        "labels": ["energy"] if name == "qm22_formic_dimer" else ["energy", "forces"],
        "batch_size": BATCH_SIZES[name],
        "weight": 1.5 if name == "rmd17" else 1.0,
        "width": 6,
    }


def write_head(folder: Path, name: str) -> None:
    """Frames to train on, of these some with labels missing; and others to validate on."""
    train, valid = choose_frames(name)
    for place, without in MISSING.get(name, {}).items():
        train[place] = without(train[place])
    (folder / f"{name}-train.extxyz").write_text("".join(train))
    (folder / f"{name}-valid.extxyz").write_text("".join(valid))


@cache
def frames(name: str) -> tuple[str, ...]:
    """Frames with few atoms and, where there are forces, some that symmetry leaves."""
    found = []
    with gzip.open(SAMPLES / name / "train.extxyz.gz", "rt") as file:
        for header in file:
            frame = header + "".join(next(file) for _ in range(int(header) + 1))
            if int(header) <= MOST_ATOMS[name] and largest_force(frame) > SMALLEST_FORCE:
                found.append(frame)
    return tuple(found)


def choose_frames(name: str) -> tuple[list[str], list[str]]:
    """Spread over the file; those to validate on have elements that are trained on."""
    small = frames(name)
    spread = small[:: max(1, len(small) // (N_TRAIN[name] + N_VALID))]
    train, rest = spread[: N_TRAIN[name]], spread[N_TRAIN[name] :]
    known = {symbol for frame in train for symbol in symbols(frame)}
    return list(train), [frame for frame in rest if symbols(frame) <= known][:N_VALID]


def largest_force(frame: str) -> float:
    rows = [line.split()[4:7] for line in frame.splitlines()[2:]]
    return max((abs(float(f)) for row in rows for f in row), default=math.inf)


def symbols(frame: str) -> set[str]:
    return {line.split()[0] for line in frame.splitlines()[2:]}


def without_energy(frame: str) -> str:
    return re.sub(r" energy=\S+", "", frame)


def without_stress(frame: str) -> str:
    return re.sub(r' stress="[^"]*"', "", frame)


def without_forces(frame: str) -> str:
    header, comment, *atoms = frame.splitlines()
    rows = [" ".join(row.split()[:4]) for row in atoms]
    return "\n".join([header, comment.replace(":forces:R:3", ""), *rows]) + "\n"


MISSING: dict[str, dict[int, Callable[[str], str]]] = {
    "wb97x": {0: without_energy, 2: without_forces, 5: without_forces},
    "mlearn": {1: without_forces, 2: without_stress},
    "monbtaw": {0: without_stress, 1: without_forces, 4: without_energy},
}
