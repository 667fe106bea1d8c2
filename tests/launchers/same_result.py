"""Runs to compare: the tiny run of tests/pretrain, and how far two of its checkpoints are apart."""

import os
import subprocess
import sys
from pathlib import Path

from launch import SOURCE_ROOTS
from safetensors.torch import load_file

ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(map(str, SOURCE_ROOTS)), "OMP_NUM_THREADS": "1"}
GFM_PRETRAIN = ("-m", "gfm_pretrain.cli")
SMALLEST = 1e-12
"""What sums in another order may make of float64 in the few steps of the run."""


def run_alone(configuration: Path, *settings: str) -> None:
    """One process, without any launcher."""
    command = [sys.executable, *GFM_PRETRAIN, str(configuration), *settings]
    subprocess.run(
        command, env={**os.environ, **ENVIRONMENT}, check=True, stdout=subprocess.DEVNULL
    )


def largest_difference(run: Path, other: Path) -> float:
    """Of any weight of two runs' checkpoints."""
    files = sorted((other / "checkpoint").rglob("*.safetensors"))
    assert len(files) > 1
    found = 0.0
    for file in files:
        expected = load_file(file)
        weights = load_file(run / file.relative_to(other))
        assert weights.keys() == expected.keys()
        found = max(found, *(float((weights[k] - expected[k]).abs().max()) for k in expected))
    return found
