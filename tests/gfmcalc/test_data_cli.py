"""`gfm data`, as its users type it: files in, tables, pictures and other formats out."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from ase.io import read
from gfm_pretrain.data.store.manifest import read_manifest
from launch import BIN, launch

from gfmcalc.cli import main

SAMPLES = Path(__file__).resolve().parents[2] / "data"
SAMPLE = SAMPLES / "mlearn"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("data") / "mlearn"
    assert main(import_words(out)) == 0
    return out


def import_words(out: Path, *more: str) -> list[str]:
    files = sorted(str(path) for path in SAMPLE.glob("*.extxyz*"))
    assert files
    words = ["data", "import", "extxyz", *files, "--out", str(out), "--level-of-theory", "PBE/VASP"]
    return [*words, "--option", "group_by=frame", *more]


def test_import_says_what_it_made(tmp_path, capsys):
    assert main(import_words(tmp_path / "store", "--licence", "BSD-3-Clause")) == 0
    said = capsys.readouterr()
    for text in (
        "PBE/VASP",
        "BSD-3-Clause",
        "reference energies",
        "is complete; plots of the audit",
    ):
        assert text in said.out
    assert "100.0%" in said.err
    assert read_manifest(tmp_path / "store").licence == "BSD-3-Clause"


def test_info_and_verify(store, capsys):
    assert main(["data", "info", str(store)]) == 0
    said = capsys.readouterr().out
    assert "PBE/VASP" in said
    assert "bytes, " in said
    assert "per structure" in said
    assert main(["data", "verify", str(store)]) == 0
    assert "all as imported" in capsys.readouterr().out


def test_verify_names_what_is_damaged(store, tmp_path, capsys):
    name = "train/00000/forces.npy"
    content = bytearray((store / name).read_bytes())
    content[-3] ^= 4
    (store / name).write_bytes(content)
    status = main(["data", "verify", str(store)])
    content[-3] ^= 4
    (store / name).write_bytes(content)
    assert status == 2
    said = capsys.readouterr().err
    assert said.startswith("gfm: error: ")
    assert f"{name} is damaged: its content has changed" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_plot_draws_a_picture(store, tmp_path, suffix):
    path = tmp_path / f"audit{suffix}"
    assert main(["data", "plot", str(store), "--out", str(path)]) == 0
    start = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    assert path.read_bytes().startswith(start)
    assert path.stat().st_size > 10_000


def test_export_gives_back_what_was_imported(store, tmp_path, capsys):
    path = tmp_path / "all.extxyz.gz"
    assert main(["data", "export", str(store), "--out", str(path)]) == 0
    exported = read(path, ":", format="extxyz")
    assert isinstance(exported, list)
    total = sum(facts.n_structures for facts in read_manifest(store).splits.values())
    assert len(exported) == total
    assert f"{total} structures" in capsys.readouterr().out
    wanted = exported[3].info["source_id"]
    assert exported[3].info["split"] == "train"
    one = tmp_path / "one.extxyz"
    assert main(["data", "export", str(store), "--out", str(one), "--id", wanted]) == 0
    [found] = read(one, ":")  # pyright: ignore[reportGeneralTypeIssues] (ASE: one structure or many)
    assert found.get_potential_energy() == exported[3].get_potential_energy()  # pyright: ignore[reportAttributeAccessIssue]
    assert path.read_bytes().startswith(b"\x1f\x8b")


def test_export_of_some(store, tmp_path, capsys):
    path = tmp_path / "some.extxyz"
    words = ["data", "export", str(store), "--out", str(path), "--split", "train", "--most", "2"]
    assert main(words) == 0
    assert len(read(path, ":")) == 2
    assert main(words) == 2
    assert "File exists" in capsys.readouterr().err
    other = [*words[:4], str(tmp_path / "other.extxyz"), "--id", "nothing"]
    assert main(other) == 2
    assert "has no structure nothing" in capsys.readouterr().err


def test_sources_lists_all_with_their_options(capsys):
    assert main(["data", "sources"]) == 0
    said = capsys.readouterr().out
    for text in ("ani1x", "qm7x", "transition1x", "mptrj", "alexandria", "aselmdb", "level = dz"):
        assert text in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--option", "group_by"], "--option must be NAME=VALUE, got 'group_by'"),
        (["--option", "group_by=fame"], "option 'group_by' of extxyz must be one of"),
        (["--keep", "invalid"], "'invalid' cannot be kept"),
        (["--refuse", "nonsense"], "no finding of kind 'nonsense'"),
        (["--valid-fraction", "1.5"], "valid_fraction must lie in 0 to 1"),
        (["--processes", "0"], "--processes must be at least 1"),
        (["--E0s", "nowhere.json"], "there is no file 'nowhere.json'"),
    ],
)
def test_a_wrong_option_is_one_line(tmp_path, capsys, words, message):
    assert main(import_words(tmp_path / "store", *words)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.mpi
@pytest.mark.slow
def test_ranks_share_an_import_and_make_the_same_store(store, tmp_path):
    out = tmp_path / "store"
    ended = launch(BIN / "gfm", *import_words(out), n_ranks=3)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("is complete") == 1
    of_ranks, of_one = (read_manifest(folder) for folder in (out, store))
    assert of_ranks.splits == of_one.splits
    for name, facts in of_one.files.items():
        if name.endswith(".npy"):
            assert of_ranks.files[name].sha256 == facts.sha256, name


@pytest.mark.mpi
@pytest.mark.slow
def test_an_error_on_one_rank_ends_all_and_is_said_once(tmp_path):
    path = tmp_path / "cut.extxyz"
    whole = gzip.decompress(next(SAMPLE.glob("train*.gz")).read_bytes()).decode()
    path.write_text(whole[: len(whole) - 400])
    words = ["data", "import", "extxyz", str(path), "--out", str(tmp_path / "store")]
    ended = launch(BIN / "gfm", *words, "--level-of-theory", "PBE/VASP", n_ranks=3)
    assert ended.returncode != 0
    assert ended.stderr.count("gfm data import: error") == 1
    assert "cut.extxyz" in ended.stderr
    assert not (tmp_path / "store").exists()


def test_without_the_optional_packages_it_says_how_to_get_them(tmp_path):
    code = (
        "import sys; sys.modules['h5py'] = None; from gfmcalc.cli import main; "
        f"sys.exit(main(['data', 'import', 'ani1x', 'a.h5', '--out', {str(tmp_path / 's')!r}]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "needs the package h5py: pip install 'gfmcalc[data]'" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_given_reference_energies_are_kept(tmp_path):
    energies = dict.fromkeys(("Li", "Mo", "Ni", "Si"), -1.5)
    given = tmp_path / "e0.json"
    given.write_text(json.dumps(energies))
    assert main(import_words(tmp_path / "store", "--E0s", str(given))) == 0
    manifest = read_manifest(tmp_path / "store")
    assert manifest.reference_energies == energies
    assert manifest.reference_origin == "given by the user"
