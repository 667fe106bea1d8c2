"""A run that is continued: exact on the same ranks, to rounding on others, and with other heads."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from gfm_models import checkpoint
from gfm_pretrain.process import World
from gfm_pretrain.trainer import Trainer
from launch import launch
from programs.runs_program import come_of
from safetensors.numpy import load_file
from tiny_run import head_mapping, run_mapping, write_head, write_yaml

PROGRAM = Path(__file__).parent / "programs" / "runs_program.py"
RANKS = (2, 3)
WAYS = {
    "wrap-around": "training.placement=wrap-around",
    "whole-ranks": "training.placement=whole-ranks",
    "sharded": "training.reduction=sharded",
}
CASES = [(n, way) for n in RANKS for way in WAYS if way != "sharded" or n == RANKS[0]]
HEADS = ("rmd17", "mlearn", "qm22_formic_dimer")
JOINS = "monbtaw"
STOP, END = 2, 4
TO_ROUNDING = 1e-13
"""Relative to the largest number of a part, after two steps of Adam in float64."""

Arrays = dict[str, np.ndarray]
ALONE = World(
    rank=0, size=1, local_rank=0, local_size=1, launcher="single", device=torch.device("cpu")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    for name in (*HEADS, JOINS):
        write_head(folder, name)
    write_yaml(folder / "run.yaml", mapping_of(folder, {name: name for name in HEADS}))
    heads = {"methanol": "rmd17", JOINS: JOINS, "qm22_formic_dimer": "qm22_formic_dimer"}
    other = mapping_of(folder, heads)
    other["resume"] = {"rename": {"rmd17": "methanol"}}
    write_yaml(folder / "other_heads.yaml", other)
    return folder


def mapping_of(folder: Path, heads: dict[str, str]) -> dict[str, Any]:
    """A run whose heads share the batch: where one joins, all have other batch sizes."""
    mapping = run_mapping(folder)
    mapping["heads"] = {name: head_mapping(folder, data) for name, data in heads.items()}
    for head in mapping["heads"].values():
        del head["batch_size"]
    mapping["mixture"] = {"by": "temperature", "batch_size": 7, "temperature": 2.0}
    mapping["training"] |= {"steps": END, "validate_every": 3}
    mapping["snapshots"] = {"every_steps": 2, "keep_last": 9}
    return mapping


def job(folder: Path, run: str, *overrides: str, config: str = "run", **options: Any):
    words = [f"run={folder / run}", *overrides]
    return {"config": str(folder / f"{config}.yaml"), "overrides": words, **options}


@pytest.fixture(scope="module")
def alone(folder) -> Callable[[str], Path]:
    """Runs of this process, each made when it is first asked for."""
    jobs = {
        "straight": job(folder, "straight"),
        "foreground": job(folder, "foreground", "snapshots.background=false"),
        "stopped": job(folder, "stopped", stop_after=STOP),
        "continued": job(folder, "continued"),
        "other_heads": job(folder, "other_heads", config="other_heads"),
    }
    done: set[str] = set()

    def run(name: str) -> Path:
        if name not in done:
            if name in ("continued", "other_heads"):
                shutil.copytree(run("stopped"), folder / name)
            expected = "Stopped: 0" if name == "stopped" else "finished"
            assert come_of(jobs[name], ALONE) == expected
            done.add(name)
        return folder / name

    return run


@pytest.fixture(scope="module")
def several(folder, alone) -> Iterator[Callable[[int], tuple[Path, dict[str, list[str]]]]]:
    """Folder of the runs of some ranks, and what came of each; every number is launched once."""
    alone("stopped")

    def start(n_ranks: int) -> tuple[Path, dict[str, list[str]]]:
        place = folder / f"ranks-{n_ranks}"
        ways = {way: setting for way, setting in WAYS.items() if (n_ranks, way) in CASES}
        for name in (*ways, "other_heads"):
            shutil.copytree(folder / "stopped", place / name)
        jobs = {
            "straight": job(place, "straight"),
            "stopped": job(place, "stopped", stop_after=STOP),
            "continued": job(place, "stopped"),
            **{name: job(place, name, setting) for name, setting in ways.items()},
            "other_heads": job(place, "other_heads", config="other_heads"),
            "disk_full": job(place, "disk_full", disk_full=n_ranks - 1),
        }
        for each in jobs.values():
            each["config"] = str(folder / Path(each["config"]).name)
        (place / "jobs.json").write_text(json.dumps(list(jobs.values())))
        result = launch(PROGRAM, str(place / "jobs.json"), n_ranks=n_ranks, timeout_seconds=400)
        assert result.returncode == 0, result.stderr
        return place, dict(zip(jobs, json.loads(result.stdout), strict=True))

    with ThreadPoolExecutor(1) as pool:
        futures = {n_ranks: pool.submit(start, n_ranks) for n_ranks in RANKS}
        yield lambda n_ranks: futures[n_ranks].result()


TROUBLES = {
    "disk_full": "File too large",
    "read_only": "Permission denied",
}


@pytest.fixture(scope="module", params=TROUBLES)
def troubled(request, folder, alone) -> Iterator[tuple[str, list[str], Path]]:
    """A run that could write no more when it was continued, and then could again."""
    place = Path(tempfile.mkdtemp())  # pytest's own folders are closed to other users
    place.chmod(0o755)
    shutil.copytree(alone("stopped"), place / "run")
    words = {"config": str(folder / "run.yaml"), "overrides": [f"run={place / 'run'}"]}
    (place / "jobs.json").write_text(json.dumps([{**words, request.param: 0}]))
    result = launch(PROGRAM, str(place / "jobs.json"), launcher="alone", timeout_seconds=200)
    assert result.returncode == 0, result.stderr
    yield request.param, json.loads(result.stdout)[0], place / "run"
    shutil.rmtree(place)


def test_what_cannot_be_written_ends_the_run_and_harms_nothing(troubled, alone, folder):
    trouble, (said,), run = troubled
    assert said.startswith("WritingError: the best weights of ")
    assert " at step 3 could not be written: " in said
    assert TROUBLES[trouble] in said
    for path in (run, run / "snapshots"):
        path.chmod(0o700)
    assert equal(state_of(run, STOP), state_of(alone("straight"), STOP))
    again = {"config": str(folder / "run.yaml"), "overrides": [f"run={run}"]}
    assert come_of(again, ALONE) == "finished"
    assert equal(state_of(run), state_of(alone("straight")))


def state_of(run: Path, step: int = END) -> Arrays:
    """Everything a snapshot holds: weights, averages, moments."""
    snapshot = run / "snapshots" / f"step-{step:08d}"
    files = sorted(snapshot.rglob("*.safetensors"))
    assert files
    return {f"{path.stem}/{n}": a for path in files for n, a in load_file(path).items()}


def losses_of(run: Path) -> list[tuple[int, dict[str, float]]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["losses"]) for line in lines if line["kind"] == "train"]


def difference(found: Arrays, expected: Arrays) -> float:
    """Largest difference, relative to the largest number of a part and kind."""
    assert found.keys() == expected.keys()
    largest: dict[str, float] = {}
    for name, array in expected.items():
        kind = "/".join(name.split("/")[:2])
        largest[kind] = max(largest.get(kind, 0.0), float(np.abs(array).max()))
    return max(
        float(np.abs(found[name] - array).max()) / (largest["/".join(name.split("/")[:2])] or 1.0)
        for name, array in expected.items()
    )


def equal(found: Arrays, expected: Arrays) -> bool:
    assert found.keys() == expected.keys()
    return all(found[name].tobytes() == array.tobytes() for name, array in expected.items())


def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_happened(alone):
    straight, continued = alone("straight"), alone("continued")
    assert equal(state_of(continued), state_of(straight))
    assert losses_of(continued) == losses_of(straight)
    assert len(losses_of(straight)) == END
    assert equal(state_of(continued, STOP), state_of(straight, STOP))
    assert not equal(state_of(straight), state_of(straight, STOP))


def test_writing_beside_the_training_writes_the_same(alone):
    straight, foreground = alone("straight"), alone("foreground")
    for step in (STOP, END):
        assert equal(state_of(foreground, step), state_of(straight, step))


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", RANKS)
def test_on_the_same_ranks_nothing_changes(n_ranks, several):
    place, came = several(n_ranks)
    assert came["straight"] == came["continued"] == ["finished"] * n_ranks
    assert came["stopped"] == ["Stopped: 0"] * n_ranks
    assert equal(state_of(place / "stopped"), state_of(place / "straight"))
    assert losses_of(place / "stopped") == losses_of(place / "straight")


@pytest.mark.mpi
@pytest.mark.parametrize(("n_ranks", "way"), CASES)
def test_on_other_ranks_rounding_changes(n_ranks, way, several, alone):
    place, came = several(n_ranks)
    assert came[way] == ["finished"] * n_ranks
    assert difference(state_of(place / way), state_of(alone("straight"))) < TO_ROUNDING


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", RANKS)
def test_one_rank_goes_on_with_what_several_began(n_ranks, several, alone, folder, tmp_path):
    place, _ = several(n_ranks)
    shutil.copytree(place / "straight", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "snapshots" / f"step-{END:08d}")
    again = {**job(folder, ""), "overrides": [f"run={tmp_path / 'run'}"]}
    assert come_of(again, ALONE) == "finished"
    assert difference(state_of(tmp_path / "run"), state_of(alone("straight"))) < TO_ROUNDING


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", RANKS)
def test_other_heads_do_not_depend_on_ranks(n_ranks, several, alone):
    place, came = several(n_ranks)
    assert came["other_heads"] == ["finished"] * n_ranks
    expected = state_of(alone("other_heads"))
    assert difference(state_of(place / "other_heads"), expected) < TO_ROUNDING


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", RANKS)
def test_a_full_disk_of_one_rank_is_one_reason_on_all(n_ranks, several):
    place, came = several(n_ranks)
    first, *others = came["disk_full"]
    assert others == [first] * (n_ranks - 1)
    rank = n_ranks - 1
    assert first.startswith("WritingError: the snapshot of step 2 could not be written on rank ")
    assert f"on rank {rank} of {n_ranks}: " in first
    assert "File too large" in first
    assert first.endswith("; what was written before is as it was")
    assert not list((place / "disk_full" / "snapshots").glob("step-????????"))


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", RANKS)
def test_the_best_of_each_head_is_a_checkpoint_that_several_ranks_wrote(n_ranks, several, alone):
    place, _ = several(n_ranks)
    for head in HEADS:
        best = place / "straight" / "best" / head
        checkpoint.verify(best)
        assert checkpoint.load(best, dtype=torch.float64).head_names == (head,)
        facts = checkpoint.read_training(best)["best"]
        expected = checkpoint.read_training(alone("straight") / "best" / head)["best"]
        assert facts == {**expected, "value": pytest.approx(expected["value"], rel=1e-9)}
        assert facts["step"] in (3, END)
        files = [checkpoint.BACKBONE_FILE, checkpoint.head_file(head)]
        of_rank, of_one = (
            {f: load_file(b / f) for f in files} for b in (best, alone("straight") / "best" / head)
        )
        for f in files:
            assert difference(of_rank[f], of_one[f]) < TO_ROUNDING


def other_heads(alone) -> tuple[Arrays, Arrays]:
    return state_of(alone("other_heads")), state_of(alone("stopped"), STOP)


def test_what_is_different_is_told(alone):
    log = (alone("other_heads") / "log.txt").read_text()
    for said in (
        "head rmd17 is now called methanol",
        "head monbtaw joins",
        "head mlearn leaves",
    ):
        assert f"different from now on: {said}" in log
    assert "the heads that leave stay in" in log


def test_a_head_that_leaves_stays_as_a_checkpoint(alone):
    removed = alone("other_heads") / "removed" / f"step-{STOP:08d}"
    potential = checkpoint.load(removed, dtype=torch.float64)
    assert potential.head_names == ("mlearn",)
    averages = state_of(alone("stopped"), STOP)
    for name, weight in potential.head("mlearn").named_parameters():
        assert np.array_equal(weight.detach().numpy(), averages[f"mlearn/average/{name}"])
    for name, weight in potential.backbone.named_parameters():
        assert np.array_equal(weight.detach().numpy(), averages[f"backbone/average/{name}"])


def test_a_head_that_joins_begins_as_in_a_new_run(alone, folder):
    """Its moments have taken the steps since it joined, the others all of them."""
    found, _ = other_heads(alone)
    steps = {name: float(a) for name, a in found.items() if "/step/" in name}
    assert {steps[n] for n in steps if n.startswith(f"{JOINS}/")} == {END - STOP}
    assert {steps[n] for n in steps if not n.startswith(f"{JOINS}/")} == {END}
    deal = json.loads((snapshot_of(alone("other_heads")) / "snapshot.json").read_text())["heads"]
    begun = {"key": JOINS, "since": STOP, "before": 0}
    assert deal[JOINS]["deal"].items() >= begun.items()
    assert deal["methanol"]["deal"]["key"] == "rmd17"
    assert deal["methanol"]["deal"]["since"] == STOP  # the shares of the batch have changed


def snapshot_of(run: Path, step: int = END) -> Path:
    return run / "snapshots" / f"step-{step:08d}"


def test_a_head_that_was_renamed_only_goes_on_bit_by_bit(alone, folder, tmp_path):
    mapping = mapping_of(folder, {"methanol": "rmd17", **{n: n for n in HEADS[1:]}})
    mapping["resume"] = {"rename": {"rmd17": "methanol"}}
    config = write_yaml(tmp_path / "renamed.yaml", mapping)
    shutil.copytree(alone("stopped"), tmp_path / "run")
    renamed = {"config": str(config), "overrides": [f"run={tmp_path / 'run'}"]}
    assert come_of({**renamed, "stop_after": 3}, ALONE) == "Stopped: 0"
    assert come_of(renamed, ALONE) == "finished"  # to ask again renames nothing again
    found = {n.replace("methanol/", "rmd17/"): a for n, a in state_of(tmp_path / "run").items()}
    assert equal(found, state_of(alone("straight")))


def test_the_weights_of_a_head_that_joins_are_those_of_a_new_run(alone, folder, tmp_path):
    """Before the first step with it."""
    mapping = mapping_of(folder, {name: name for name in (*HEADS, JOINS)})
    new = write_yaml(tmp_path / "new.yaml", mapping | {"run": str(tmp_path / "new")})
    shutil.copytree(alone("stopped"), tmp_path / "run")
    weights = [first_weights(new, folder) for folder in (tmp_path / "new", tmp_path / "run")]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        same = weight.tobytes() == weights[1][name].tobytes()
        assert same == name.startswith(f"heads.{JOINS}."), name


def first_weights(config_file: Path, run: Path) -> Arrays:
    found: Arrays = {}

    class SeenError(Exception):
        pass

    def see(trainer: Trainer):
        found.update(
            {n: p.numpy(force=True).copy() for n, p in trainer.potential.named_parameters()}
        )
        raise SeenError

    with patch.object(Trainer, "train_step", see):
        come = come_of({"config": str(config_file), "overrides": [f"run={run}"]}, ALONE)
    assert come == "SeenError: "
    return found
