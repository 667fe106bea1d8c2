"""The potential whose physics is looked at: a given one, or one trained from published samples."""

import argparse
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from gfm_models.checkpoint import RUN_CHECKPOINT, backbone_config, head_config, read_config, select
from real_data import BIN

from gfmcalc import GFMCalculator
from gfmcalc.hub import resolve_model

ROOT = Path(__file__).parents[1]
SETS: dict[str, dict[str, Any]] = {
    "mlearn": {"labels": ["energy", "forces", "stress"], "batch_size": 2},
    "rmd17": {"batch_size": 8},
    "pbesol_supercells": {"batch_size": 2},
}
"""What is trained on, with settings of the heads, in the order in which heads are preferred."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A checkpoint, and the elements that each head to be used knows."""

    folder: Path
    elements: Mapping[str, frozenset[str]]

    @classmethod
    def read(cls, model: Path, heads: Sequence[str] | None) -> Self:
        """Of a checkpoint or a run; all heads for None.

        Raises:
            FileNotFoundError: there is none.
            ValueError: no head of that name.
        """
        folder = resolve_model(model)
        config = read_config(folder)
        names = select(config, heads)
        known = {name: frozenset(head_config(config, name).elements) for name in names}
        return cls(folder=folder, elements=known)

    def describe(self) -> str:
        """Its size, in a few words."""
        architecture = backbone_config(read_config(self.folder))
        return f"{architecture.channels} channels, cutoff {architecture.cutoff:g} Å"

    def head(self, symbols: str) -> str | None:
        """The first that knows all of them, such as "C H O"; None if none does."""
        wanted = set(symbols.split())
        return next((name for name, known in self.elements.items() if wanted <= known), None)

    def calculator(
        self, head: str, precision: Literal["float32", "float64"] = "float32"
    ) -> GFMCalculator:
        """As users get it on a CPU."""
        return GFMCalculator(self.folder, head=head, device="cpu", default_dtype=precision)


def trained_model(options: argparse.Namespace) -> Path:
    """A run trained from those of `SETS` that are at hand, unless it is there."""
    names = [name for name in SETS if (options.data / name / "metadata.json").is_file()]
    if not names:
        raise SystemExit(
            f"{options.data} holds no folder {', '.join(SETS)}; give --data or --model"
        )
    run = options.out / "-".join(names)
    if not (run / RUN_CHECKPOINT).is_dir():
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / f"{run.name}.yaml"
        text = yaml.safe_dump(configuration(run, names, options), sort_keys=False)
        path.write_text(text, encoding="utf-8")
        environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
        subprocess.run([str(BIN / "gfm-pretrain"), str(path)], check=True, env=environment)
    return run


def configuration(run: Path, names: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Of the run that trains it."""
    return {
        "run": str(run),
        "seed": 1,
        "model": {"preset": "small"},
        "heads": {name: head_options(options.data / name) | SETS[name] for name in names},
        "training": {"steps": options.steps, "validate_every": options.steps},
    }


def head_options(folder: Path) -> dict[str, Any]:
    """Settings of a head that a set's own files tell."""
    metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    energies = metadata.get("isolated_atom_energies_eV")
    return {
        "level_of_theory": metadata["level_of_theory"],
        **{split: str(folder / f"{split}.extxyz.gz") for split in ("train", "valid", "test")},
        **({"reference_energies": energies} if energies else {}),
    }
