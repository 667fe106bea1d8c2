"""Stores of the real samples in `data/`: the same heads as from the files themselves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gfm_pretrain.data.heads import read_head
from gfm_pretrain.data.store.importer import import_source
from gfm_pretrain.data.store.job import ImportOptions
from gfm_pretrain.data.store.store import Store, open_store
from gfm_pretrain.head_options import HeadOptions
from worlds import ALONE

SAMPLES = Path(__file__).resolve().parents[4] / "data"
NAMES = sorted(path.parent.name for path in SAMPLES.glob("*/metadata.json"))
CUTOFF = 5.0


def files_of(name: str) -> dict[str, str]:
    return {s: str(SAMPLES / name / f"{s}.extxyz.gz") for s in ("train", "valid", "test")}


def import_sample(name: str, out: Path) -> Store:
    asked = ImportOptions(
        source="extxyz",
        files=tuple(files_of(name).values()),
        options={"split_by": "filename", "group_by": "frame"},
        level_of_theory="as published",
        keep=("duplicate", "close", "absurd"),
    )
    import_source(asked, out, world=ALONE)
    return open_store(out)


def head_options(name: str, **data: Any) -> HeadOptions:
    labels = ("energy",) if name == "qm22_formic_dimer" else ("energy", "forces")
    return HeadOptions(labels=labels, **data)


def test_there_are_samples():
    assert len(NAMES) == 6


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_store_makes_the_same_head_as_its_files(name, tmp_path):
    store = import_sample(name, tmp_path / name)
    options = head_options(name, level_of_theory="as published", **files_of(name))
    expected, in_memory = read_head(name, options, cutoff=CUTOFF)
    found, stored = read_head(
        name, head_options(name, store=str(store.folder)), cutoff=CUTOFF, store=store
    )
    assert found.config.labels == expected.config.labels
    assert found.config.level_of_theory == "as published"
    energies = expected.config.reference_energies
    assert found.config.reference_energies == pytest.approx(energies, abs=1e-6)
    assert found.config.scales == pytest.approx(expected.config.scales, rel=1e-6)
    assert found.unit == pytest.approx(expected.unit, rel=1e-6)
    assert found.statistics == expected.statistics
    assert found.baseline == pytest.approx(expected.baseline, rel=1e-5)
    assert stored.keys() == in_memory.keys()
    for split, structures in stored.items():
        places = np.arange(len(structures))
        assert len(structures) == len(in_memory[split])
        read, wanted = structures.read(places), in_memory[split].read(places)
        assert np.array_equal(read.atomic_numbers, wanted.atomic_numbers)
        assert np.array_equal(read.energy, wanted.energy, equal_nan=True)
        assert read.positions == pytest.approx(wanted.positions, abs=4e-6)
        assert np.allclose(read.forces, wanted.forces, rtol=1e-6, equal_nan=True)
        assert np.allclose(read.stress, wanted.stress, rtol=1e-6, equal_nan=True)
        edges = structures.index(CUTOFF).edges(places)
        assert np.array_equal(edges, in_memory[split].index(CUTOFF).edges(places))
