"""Stores in a run, in a mixture with fractions of structures, on one rank and on several."""

import json
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gfm_models import checkpoint
from gfm_pretrain.cli import main
from gfm_pretrain.config import RunConfig
from gfm_pretrain.configuration import read_configuration
from gfm_pretrain.data.store.importer import import_source
from gfm_pretrain.data.store.job import ImportOptions
from gfm_pretrain.data.store.splits import Fractions
from gfm_pretrain.data.store.store import StoreError
from gfm_pretrain.process import World
from gfm_pretrain.setup import open_stores, set_up
from launch import BIN, launch
from tiny_run import LEVELS, choose_frames, run_mapping, write_head, write_yaml

HEADS = ("rmd17", "monbtaw", "wb97x")
"""Of these monbtaw has a store, the others have files."""
ALONE = World(
    rank=0, size=1, local_rank=0, local_size=1, launcher="single", device=torch.device("cpu")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("setup")


@pytest.fixture(scope="module")
def store(folder) -> Path:
    frames = [frame for part in choose_frames("monbtaw") for frame in part]
    (folder / "all.extxyz").write_text("".join(frames))
    asked = ImportOptions(
        source="extxyz",
        files=(str(folder / "all.extxyz"),),
        options={"group_by": "frame"},
        level_of_theory=LEVELS["monbtaw"],
        fractions=Fractions(valid=0.3, test=0.0),
    )
    import_source(asked, folder / "store", world=ALONE)
    return folder / "store"


@pytest.fixture(scope="module")
def config_file(folder, store) -> Path:
    mapping = run_mapping(folder)
    heads = {name: dict(mapping["heads"][name]) for name in HEADS}
    for name, head in heads.items():
        write_head(folder, name)
        del head["batch_size"]
    heads["monbtaw"] = {"store": str(store), "weight": 2.0, "width": 6}
    training = mapping["training"] | {"epochs": 1.5}
    del training["steps"]
    mixture = {"by": "size", "batch_size": 3}
    return write_yaml(
        folder / "run.yaml", mapping | {"heads": heads, "training": training, "mixture": mixture}
    )


@pytest.fixture(scope="module")
def config(config_file) -> RunConfig:
    return read_configuration(RunConfig, config_file)


@pytest.fixture(scope="module")
def alone(folder, config_file) -> Path:
    assert main([str(config_file), f"run={folder / 'alone'}"]) == 0
    return folder / "alone"


def lines_of(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def sizes_of(config: RunConfig) -> dict[str, int]:
    summaries = set_up(config, ALONE).summaries
    return {name: len(summary.indices["train"]) for name, summary in summaries.items()}


def test_a_head_with_a_store_is_described_by_it(config, store):
    setup = set_up(config, ALONE)
    summary, manifest = setup.summaries["monbtaw"], open_stores(config, ALONE)["monbtaw"].manifest
    assert tuple(setup.summaries) == HEADS
    assert set(summary.indices) == set(setup.data["monbtaw"]) == {"train", "valid"}
    assert summary.config.level_of_theory == LEVELS["monbtaw"]
    assert summary.config.reference_energies == pytest.approx(manifest.reference_energies)
    assert summary.config.scales == pytest.approx(manifest.scales)
    assert summary.unit == pytest.approx(manifest.force_scale)
    assert summary.files["train"]["path"] == str(store / "manifest.json")


def test_a_store_in_shared_memory_is_the_same(config):
    mapped, shared = (set_up(replace(config, stage=stage), ALONE) for stage in ("mapped", "shared"))
    places = np.arange(len(mapped.data["monbtaw"]["train"]))
    for name in ("positions", "forces", "energy"):
        found, expected = (
            getattr(setup.data["monbtaw"]["train"].read(places), name) for setup in (shared, mapped)
        )
        np.testing.assert_array_equal(found, expected)


def test_batches_and_steps_follow_from_what_was_read(config):
    sizes = sizes_of(config)
    assert sizes["rmd17"] == 5
    setup = set_up(config, ALONE)
    total = sum(sizes.values())
    assert setup.batch_sizes == {name: Fraction(3 * n, total) for name, n in sizes.items()}
    assert setup.total_steps == -(-3 * total // 6)  # 1.5 epochs of total / 3 steps


@pytest.fixture
def damaged(store, tmp_path) -> Path:
    return shutil.copytree(store, tmp_path / "store")


def with_store(config: RunConfig, store: Path) -> RunConfig:
    head = replace(config.heads["monbtaw"], store=str(store))
    return replace(config, heads={**config.heads, "monbtaw": head})


def test_a_store_that_is_not_there_is_named(config, tmp_path):
    with pytest.raises(StoreError, match=r"absent is no store: it has no manifest\.json; make one"):
        set_up(with_store(config, tmp_path / "absent"), ALONE)


def test_one_flipped_bit_is_noticed_by_the_rank_that_reads_it(config, damaged):
    path = next(damaged.rglob("positions*"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    complaints = []
    for rank in range(3):
        try:
            open_stores(with_store(config, damaged), replace(ALONE, rank=rank, size=3))
        except StoreError as error:
            complaints.append(str(error))
    assert len(complaints) == 1
    assert f"{path} is damaged: its content has changed since the import" in complaints[0]


def test_a_run_by_epochs_takes_its_steps_and_says_what_it_saw(config, alone):
    sizes, total_steps = sizes_of(config), set_up(config, ALONE).total_steps
    training = checkpoint.read_training(alone / "checkpoint")
    assert training["steps"] == total_steps
    assert training["config"]["training"]["epochs"] == 1.5
    log = (alone / "log.txt").read_text(encoding="utf-8")
    assert f"step {total_steps}/{total_steps}" in log
    table = log.split(f"what {total_steps} steps were\n")[1].splitlines()
    assert table[0].split() == ["head", "structures", "per", "step", "seen", "epochs"]
    for line, (name, n) in zip(table[2:5], sizes.items(), strict=True):
        seen = total_steps * 3 * n // sum(sizes.values())
        assert line.split()[:2] == [name, str(n)]
        assert line.split()[3:] == [str(seen), f"{seen / n:.3g}"]


def test_a_head_without_structures_in_a_step_has_no_loss_there(config, alone):
    n_rmd17, total = sizes_of(config)["rmd17"], sum(sizes_of(config).values())
    lines = [line for line in lines_of(alone) if line["kind"] == "train"]
    for line in lines:
        before, after = ((step * 3 * n_rmd17) // total for step in (line["step"] - 1, line["step"]))
        assert ("rmd17" in line["losses"]) == (after > before)
    assert {"rmd17" in line["losses"] for line in lines} == {True, False}


def test_a_finished_run_by_epochs_is_not_prolonged(alone, config_file, tmp_path):
    run = shutil.copytree(alone, tmp_path / "run")
    assert main([str(config_file), f"run={run}"]) == 0
    assert [line["kind"] for line in lines_of(run)[len(lines_of(alone)) :]] == ["run", "event"]
    assert lines_of(run)[-1]["event"] == "finished"


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [2, 3])
def test_several_ranks_do_what_one_does(n_ranks, folder, config_file, alone):
    run, stage = folder / f"ranks-{n_ranks}", "shared" if n_ranks == 3 else "mapped"
    result = launch(
        BIN / "gfm-pretrain",
        *(str(config_file), f"run={run}", f"stage={stage}"),
        n_ranks=n_ranks,
        timeout_seconds=300,
    )
    assert result.returncode == 0, result.stderr
    found, expected = (numbers_of(learned_of(lines_of(r))) for r in (run, alone))
    assert found == pytest.approx(expected, rel=1e-9)
    assert {name.split("/")[2] for name in found} == {"losses", "heads", "gradient_norm"}


def learned_of(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """What does not depend on ranks and time."""
    kept = ("losses", "heads", "gradient_norm")
    return {
        f"{line['kind']} {line['step']}": {key: line[key] for key in kept if key in line}
        for line in lines
        if line["kind"] in ("before", "train", "valid", "test")
    }


def numbers_of(value: Any, name: str = "") -> dict[str, float]:
    """The numbers in nested dictionaries, by what they are called."""
    if isinstance(value, dict):
        return {k: v for key in value for k, v in numbers_of(value[key], f"{name}/{key}").items()}
    return {name: value}
