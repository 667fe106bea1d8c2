"""Stores of real data at many levels of theory, and one model pretrained from all of them.

    python benchmarks/real_data.py DATA [--out FOLDER] [--minutes M] [--ranks N]

DATA holds a folder for each set, with `train`, `valid` and `test` files in extended XYZ and a
`metadata.json`, as `data/` does in this repository. Every set is imported with its published split
and becomes a head; batches follow the sizes of the sets at temperature 2. Stores that are in the
folder already are used as they are.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from gfm_pretrain.data.store.manifest import Manifest, read_manifest
from gfm_pretrain.table import text_table
from machine import describe_machine

BIN = Path(sys.executable).parent
# Open MPI refuses root and more ranks than cores unless told otherwise; other MPIs ignore this.
MPI_ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}


def main() -> None:
    """Import all sets, pretrain, and print what came out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of the sets")
    parser.add_argument("--out", type=Path, default=Path("build/real_data"), metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=20.0, metavar="M", help="training (20)")
    parser.add_argument("--ranks", type=int, default=2, metavar="N", help="MPI ranks (2)")
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    print(describe_machine(), end="\n\n")
    sets = sorted(path.parent for path in arguments.data.resolve().glob("*/metadata.json"))
    rows = [import_set(folder, out / "stores") for folder in sets]
    header = ["set", "train", "valid", "test", "elements", "left out", "bytes each", "seconds"]
    print(text_table(header, rows), end="\n\n", flush=True)
    pretrain([folder.name for folder in sets], out, arguments.minutes, arguments.ranks)


def import_set(folder: Path, stores: Path) -> list[str]:
    """Import a set unless it is there; a row of the table."""
    stores.mkdir(exist_ok=True)
    out, start = stores / folder.name, time.perf_counter()
    if not out.exists():
        metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
        run_quietly([BIN / "gfm", *import_words(folder, out, metadata)])
    seconds = time.perf_counter() - start
    manifest = read_manifest(out)
    sizes = [split_size(manifest, split) for split in ("train", "valid", "test")]
    n_bytes = sum(file.bytes for name, file in manifest.files.items() if name.endswith(".npy"))
    refused = ", ".join(f"{n} {kind}" for kind, n in manifest.refused.items())
    row = [folder.name, *sizes, len(manifest.scales), refused or "-"]
    return [str(cell) for cell in (*row, round(n_bytes / sum(sizes)), f"{seconds:.1f}")]


def import_words(folder: Path, out: Path, metadata: dict[str, Any]) -> list[str]:
    """The arguments of `gfm` for a set."""
    files = [str(folder / f"{split}.extxyz.gz") for split in ("train", "valid", "test")]
    words = ["data", "import", "extxyz", *files, "--out", str(out), "--processes", "2"]
    words += ["--option", "split_by=filename", "group_by=frame"]
    words += ["--level-of-theory", metadata["level_of_theory"], "--licence", metadata["licence"]]
    words += ["--citation", "; ".join(metadata["citation"])]
    energies = metadata.get("isolated_atom_energies_eV")
    if energies:
        given = out.with_name(f"{out.name}-e0.json")
        given.write_text(json.dumps(energies), encoding="utf-8")
        words += ["--E0s", str(given)]
    return words


def split_size(manifest: Manifest, split: str) -> int:
    """Number of structures."""
    return manifest.splits[split].n_structures if split in manifest.splits else 0


def pretrain(names: list[str], out: Path, minutes: float, ranks: int) -> None:
    """Train one head for each set; the run prints its own table of errors."""
    config = {
        "run": str(out / "run"),
        "seed": 1,
        "model": {"channels": 32, "cutoff": 5.0},
        "heads": {name: head(out / "stores" / name) for name in names},
        "mixture": {"by": "temperature", "temperature": 2.0, "batch_size": 48},
        "training": {"steps": 2000, "max_minutes": minutes, "validate_every": 500},
    }
    path = out / "run.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    command = [BIN / "mpiexec", "-n", ranks, BIN / "gfm-pretrain", path]
    subprocess.run(
        [str(word) for word in command], check=True, env={**os.environ, **MPI_ENVIRONMENT}
    )


def head(store: Path) -> dict[str, Any]:
    """Settings of a head: what its store cannot know."""
    has_forces = read_manifest(store).splits["train"].n_forces > 0
    return {"store": str(store), "labels": ["energy", "forces"] if has_forces else ["energy"]}


def run_quietly(command: list[Any]) -> None:
    """Run a command; show what it said if it fails."""
    words = [str(word) for word in command]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(words)}\n{ended.stderr}")


if __name__ == "__main__":
    main()
