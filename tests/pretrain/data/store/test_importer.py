"""Published files in, a store out: the same one for any number of processes, or none."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import h5py
import numpy as np
import pytest
from ase.io import write
from gfm_pretrain.data.sources.ani1x import SOURCE
from gfm_pretrain.data.store import importer
from gfm_pretrain.data.store.importer import import_source
from gfm_pretrain.data.store.job import JOB, PARTS, ImportOptions, claimed
from gfm_pretrain.data.store.manifest import read_manifest
from gfm_pretrain.data.store.splits import Fractions
from gfm_pretrain.data.store.store import Store, open_store
from gfm_pretrain.durable import UNFINISHED
from small_files import (
    ENERGIES,
    HARTREE,
    MOLECULES,
    STIFFNESS,
    read_frames,
    write_ani1x,
    write_crystals,
    write_formula,
)
from worlds import ALONE

NO_SPLIT = Fractions(valid=0, test=0)


def ani1x(path: Path, **changes) -> ImportOptions:
    given = {"source": "ani1x", "files": (str(path),), "fractions": NO_SPLIT, **changes}
    return ImportOptions(**given)


def crystals(*paths: Path, **changes) -> ImportOptions:
    given = {
        "source": "extxyz",
        "files": tuple(map(str, paths)),
        "options": {"group_key": "mat"},
        "level_of_theory": "PBE/test",
        "fractions": Fractions(valid=0.25, test=0.25),
        **changes,
    }
    return ImportOptions(**given)


def run(asked: ImportOptions, out: Path, **changes) -> Store:
    import_source(asked, out, world=ALONE, **changes)
    return open_store(out)


def identifiers(store: Store, split: str) -> list[str]:
    return [structure.identifier for structure in store.splits[split].structures()]


def contents(folder: Path) -> dict[str, str]:
    return {name: facts.sha256 for name, facts in read_manifest(folder).files.items()}


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    return write_ani1x(tmp_path_factory.mktemp("published") / "ani1x-release.h5", n_frames=40)


def test_every_record_comes_back_in_ev_and_angstrom(published, tmp_path):
    structures = run(ani1x(published), tmp_path / "store").splits["train"]
    assert len(structures) == 3 * 40
    for structure in structures.structures():
        formula = structure.identifier.split("/")[0]
        numbers, rest = MOLECULES[formula]
        assert structure.atomic_numbers.tolist() == numbers
        moved = structure.positions - np.array(rest)
        stretched = 0.5 * STIFFNESS * (moved**2).sum()
        assert structure.energy is not None
        assert structure.forces is not None
        assert structure.energy == pytest.approx(
            (ENERGIES[formula] + stretched) * HARTREE, abs=1e-5
        )
        assert structure.forces == pytest.approx(-STIFFNESS * HARTREE * moved, abs=1e-5)
        assert structure.stress is None


def test_the_manifest_says_what_is_in_the_store(published, tmp_path):
    manifest = run(ani1x(published), tmp_path / "store").manifest
    assert manifest.source_files == {published.name: published.stat().st_size}
    assert manifest.level_of_theory == "wB97X/6-31G(d)"
    assert manifest.source_options == {"level": "dz"}
    train = manifest.splits["train"]
    assert (train.n_structures, train.n_atoms) == (120, 40 * (5 + 3 + 4))
    assert (train.n_energies, train.n_forces, train.n_stresses) == (120, 120, 0)
    assert train.elements == ("H", "C", "N", "O")
    assert "rank 3 of 4" in manifest.reference_origin
    assert manifest.units["energy"] == "eV"
    assert manifest.citation
    assert manifest.licence


def test_files_of_one_name_in_several_folders_are_told_apart(tmp_path):
    paths = []
    for number in (1, 2):
        (tmp_path / f"md{number}").mkdir()
        paths.append(write_crystals(tmp_path / f"md{number}" / "all.extxyz", seed=number))
    manifest = run(crystals(*paths), tmp_path / "store").manifest
    sizes = {f"md{n}/all.extxyz": p.stat().st_size for n, p in enumerate(paths, start=1)}
    assert manifest.source_files == sizes


def test_columns_that_no_structure_has_take_no_space(published, tmp_path):
    folder = run(ani1x(published), tmp_path / "store").folder / "train/00000"
    names = {path.stem for path in folder.iterdir()}
    assert {"positions", "forces", "energy", "n_edges"} <= names
    assert not names & {"cell", "pbc", "stress"}


@pytest.mark.slow
def test_two_processes_make_the_same_store(published, tmp_path):
    one = run(ani1x(published), tmp_path / "one").folder
    two = run(ani1x(published), tmp_path / "two", processes=2).folder
    assert {k: v for k, v in contents(one).items() if k.endswith(".npy")} == {
        k: v for k, v in contents(two).items() if k.endswith(".npy")
    }


def test_nothing_is_visible_before_the_end(published, tmp_path):
    out = tmp_path / "store"
    with (
        patch.object(importer, "finish_import", side_effect=RuntimeError("power cut")),
        pytest.raises(RuntimeError, match="power cut"),
    ):
        import_source(ani1x(published), out, world=ALONE)
    assert not out.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["store" + UNFINISHED]
    store = run(ani1x(published), out)
    assert len(store.splits["train"]) == 120
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert not (out / JOB).exists()
    assert not (out / PARTS).exists()


@pytest.mark.slow
def test_a_killed_import_goes_on_where_it_was(tmp_path):
    path = write_many_formulas(tmp_path / "ani1x.h5", 60)
    out = tmp_path / "store"
    n_done = kill_while_importing(path, out)
    assert not out.exists()
    with patch.object(importer, "_import_part", wraps=importer._import_part) as imported:
        interrupted = run(ani1x(path), out)
    whole = run(ani1x(path), tmp_path / "whole")
    assert n_done >= 2
    assert imported.call_count == n_parts_of(path) - n_done
    assert contents_of_columns(interrupted.folder) == contents_of_columns(whole.folder)


def test_another_import_is_not_mixed_with_one_that_was_begun(published, tmp_path):
    out = tmp_path / "store"
    stop = RuntimeError("power cut")
    with (
        patch.object(importer, "finish_import", side_effect=stop),
        pytest.raises(RuntimeError),
    ):
        import_source(ani1x(published), out, world=ALONE)
    with pytest.raises(ValueError, match=r"begun with other budget; continue it with the same"):
        import_source(ani1x(published, budget=1000), out, world=ALONE)


def test_a_file_that_was_damaged_is_imported_once_it_is_whole(published, tmp_path):
    path = tmp_path / "ani1x-release.h5"
    path.write_bytes(published.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"ani1x-release\.h5"):
        import_source(ani1x(path), tmp_path / "store", world=ALONE)
    path.write_bytes(published.read_bytes())
    assert len(run(ani1x(path), tmp_path / "store").splits["train"]) == 120


def test_two_imports_into_one_store_do_not_meet(published, tmp_path):
    out = tmp_path / "store"
    with (
        claimed(out.with_name(out.name + UNFINISHED)),
        pytest.raises(ValueError, match="another import is at work in"),
    ):
        import_source(ani1x(published), out, world=ALONE)
    assert len(run(ani1x(published), out).splits["train"]) == 120


def test_what_is_decided_at_the_end_can_be_changed_without_reading_again(tmp_path):
    path = write_crystals(tmp_path / "all.extxyz")
    out = tmp_path / "store"
    one_group = crystals(path, options={"group_by": "file"})
    with pytest.raises(ValueError, match=r"1 group\(s\).*--valid-fraction 0 --test-fraction 0"):
        import_source(one_group, out, world=ALONE)
    with patch.object(importer, "_import_part") as imported:
        store = run(crystals(path, options={"group_by": "file"}, fractions=NO_SPLIT), out)
    assert not imported.called
    assert list(store.splits) == ["train"]


def test_a_store_is_not_overwritten(published, tmp_path):
    run(ani1x(published), tmp_path / "store")
    with pytest.raises(FileExistsError, match=r"exists already; remove it, or choose another"):
        import_source(ani1x(published), tmp_path / "store", world=ALONE)


def test_groups_are_never_divided_and_the_choice_is_always_the_same(tmp_path):
    store = run(crystals(write_crystals(tmp_path / "all.extxyz")), tmp_path / "store")
    groups = {
        split: {int(g) for g in store.splits[split].shards[0].group} for split in store.splits
    }
    assert [len(groups[split]) for split in ("train", "valid", "test")] == [2, 1, 1]
    assert len(set.union(*groups.values())) == 4
    again = run(crystals(tmp_path / "all.extxyz"), tmp_path / "again")
    assert identifiers(again, "test") == identifiers(store, "test")


def test_a_material_in_two_published_splits_is_left_out_of_training(tmp_path):
    train = write_crystals(tmp_path / "train.extxyz", seed=1)
    test = tmp_path / "test.extxyz"
    write_crystals(test, seed=2)
    frames = [a for a in read_frames(test) if a.info["mat"] in ("KBr", "KCl")]
    other = frames[0].copy()
    other.calc = frames[0].calc
    other.info["mat"] = other.symbols = "LiBr"
    write(test, [*frames, other], format="extxyz")
    asked = crystals(train, test, options={"group_key": "mat", "split_by": "filename"})
    store = run(asked, tmp_path / "store")
    assert store.manifest.refused == {"split_leak": 24, "unseen_element": 1 + 24}
    assert store.manifest.split_origin == "as published"


def test_copies_are_left_out_and_the_test_set_keeps_its_own(tmp_path):
    train = write_crystals(tmp_path / "train.extxyz", seed=1)
    frames = read_frames(train)
    again = frames[0].copy()
    again.calc = frames[0].calc
    again.info["mat"] = "rock salt"
    again.positions += 0.25
    write(tmp_path / "test.extxyz", [again], format="extxyz")
    options = {"group_key": "mat", "split_by": "filename"}
    asked = crystals(train, tmp_path / "test.extxyz", options=options)
    store = run(asked, tmp_path / "store")
    assert store.manifest.refused == {"duplicate": 1}
    assert identifiers(store, "test") == ["test.extxyz:0"]
    assert "train.extxyz:0" not in identifiers(store, "train")
    kept = run(replace(asked, keep=("duplicate",)), tmp_path / "all")
    assert "train.extxyz:0" in identifiers(kept, "train")


def test_a_structure_over_the_budget_stops_the_import_with_advice(tmp_path):
    path = write_crystals(tmp_path / "all.extxyz")
    with pytest.raises(ValueError, match=r"all\.extxyz:0 has \d+ edges.*raise --budget, or leave"):
        import_source(crystals(path, budget=10), tmp_path / "store", world=ALONE)
    many = read_frames(path)
    write(path, [*many, many[0].repeat((2, 1, 1))], format="extxyz")
    add_energy_to_the_last(path)
    n_edges = run(crystals(path), tmp_path / "whole").splits["train"].shards[0].n_edges[0, -1]
    asked = crystals(path, budget=int(n_edges) + 40, refuse=("over_budget",))
    store = run(asked, tmp_path / "smaller")
    assert store.manifest.refused["over_budget"] == 1


def test_nothing_usable_is_said(tmp_path):
    path = tmp_path / "close.extxyz"
    frames = read_frames(write_crystals(tmp_path / "all.extxyz"))
    frames[0].positions = [[0, 0, 0], [0, 0, 0.3]]
    write(path, frames[0], format="extxyz")
    with pytest.raises(
        ValueError,
        match=r"no structure could be used: 1 close, such as close\.extxyz:0: two atoms are 0\.3",
    ):
        import_source(crystals(path), tmp_path / "store", world=ALONE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "ani2x"}, "ani1x"),
        ({"options": {"level": "qz"}}, "must be one of dz, tz, ccx, got 'qz'"),
        ({"options": {"levle": "dz"}}, "has no option 'levle'; its options are: level"),
        ({"keep": ("invalid",)}, "'invalid' cannot be kept"),
        ({"budget": 0}, "budget must be at least 1 edge"),
        ({"files": ()}, "give at least one file"),
    ],
)
def test_a_wrong_option_is_said_before_anything_is_read(changes, message, published):
    with pytest.raises(ValueError, match=message):
        ani1x(published, **changes)


def test_files_are_looked_for_before_anything_is_written(published, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*nowhere\.h5"):
        import_source(ani1x(tmp_path / "nowhere.h5"), tmp_path / "store", world=ALONE)
    twice = ani1x(published, files=(str(published),) * 2)
    with pytest.raises(ValueError, match="is given twice"):
        import_source(twice, tmp_path / "store", world=ALONE)
    nameless = crystals(write_crystals(tmp_path / "a.extxyz"), level_of_theory="")
    with pytest.raises(ValueError, match="give --level-of-theory"):
        import_source(nameless, tmp_path / "store", world=ALONE)
    assert not (tmp_path / ("store" + UNFINISHED)).exists()


def add_energy_to_the_last(path: Path) -> None:
    """A repeated structure has lost its labels: give it an energy."""
    frames = path.read_text().splitlines()
    place = max(i for i, line in enumerate(frames) if line.startswith("4") and line.strip() == "4")
    frames[place + 1] += " energy=-1.0"
    path.write_text("\n".join(frames) + "\n")


def write_many_formulas(path: Path, n_formulas: int) -> Path:
    generator = np.random.default_rng(5)
    with h5py.File(path, "w") as file:
        for i in range(n_formulas):
            write_formula(file, "C1H4", generator.normal(0, 0.03, (400, 5, 3)))
            file.move("C1H4", f"molecule-{i:03d}")
    return path


def n_parts_of(path: Path) -> int:
    n_blocks = sum(1 for _ in SOURCE.blocks(path, {"level": "dz"}))
    return -(-n_blocks // SOURCE.blocks_per_part)


def contents_of_columns(folder: Path) -> dict[str, str]:
    return {name: sha for name, sha in contents(folder).items() if name.endswith(".npy")}


def kill_while_importing(path: Path, out: Path) -> int:
    """Kill an import with SIGKILL when it has written some parts; how many it had written."""
    words = ["data", "import", "ani1x", path, "--out", out]
    words += ["--valid-fraction", "0", "--test-fraction", "0"]
    command = [sys.executable, "-m", "gfmcalc.cli", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    parts = out.with_name(out.name + UNFINISHED) / PARTS
    until = time.monotonic() + 60
    while time.monotonic() < until and len(finished(parts)) < 2:
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return len(finished(parts))


def finished(parts: Path) -> list[Path]:
    return [p for p in parts.iterdir() if not p.suffix] if parts.is_dir() else []
