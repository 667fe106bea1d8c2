"""What several models are to learn: the same structures and reference energies for all of them."""

import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ase import Atoms
from ase.data import chemical_symbols
from ase.io import read, write
from gfm_pretrain.data.extxyz import read_extxyz
from gfm_pretrain.data.labels import LabelKeys
from gfm_pretrain.data.reference import resolve_reference_energies
from gfm_pretrain.data.structure_set import in_memory


def read_split(folder: Path, split: str) -> list[Atoms]:
    """The structures of FOLDER/SPLIT.extxyz.gz."""
    text = gzip.decompress((folder / f"{split}.extxyz.gz").read_bytes()).decode()
    found = read(io.StringIO(text), ":", format="extxyz")
    assert isinstance(found, list)
    return found


def write_problem(
    folder: Path,
    train: Sequence[Atoms],
    test: Sequence[Atoms],
    *,
    energies: Mapping[str, float] | None = None,
) -> None:
    """Write it as `peers.learning` reads it; a problem that is there stays as it is.

    Args:
        folder: For train.extxyz, test.extxyz and reference_energies.json.
        train: To learn from.
        test: Held out; what has elements that are not in `train` is left out.
        energies: Of isolated atoms in eV; by default they are fitted.
    """
    done = folder / "reference_energies.json"
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    known = {symbol for atoms in train for symbol in atoms.symbols}
    write(folder / "train.extxyz", train, format="extxyz")
    held_out = [atoms for atoms in test if set(atoms.symbols) <= known]
    write(folder / "test.extxyz", held_out, format="extxyz")
    energies = energies or fitted(folder / "train.extxyz")
    ordered = {symbol: energies[symbol] for symbol in chemical_symbols if symbol in known}
    done.write_text(json.dumps(ordered), encoding="utf-8")


def fitted(path: Path) -> dict[str, float]:
    """By robust least squares, as this project does where nothing else is known."""
    read_structures, _ = read_extxyz(path, keys=LabelKeys())
    fit = resolve_reference_energies(in_memory(read_structures, cutoff=3.0), "fit")
    return {chemical_symbols[z]: energy for z, energy in fit.values.items()}
