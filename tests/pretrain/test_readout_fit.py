"""The last layers of a run: N ranks find what one does, errors fall, and nothing else moves."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from gfm_models.potential import MultiHeadPotential
from gfm_pretrain.config import RunConfig
from gfm_pretrain.configuration import read_configuration
from gfm_pretrain.preemption import LeftEarlyError, StopRequest
from gfm_pretrain.readout_fit import FEWEST_STRUCTURES, fit_readouts, fit_table
from gfm_pretrain.readout_solution import Solution
from gfm_pretrain.setup import set_up
from gfm_pretrain.train import pretrain
from gfm_pretrain.trainer import Trainer
from launch import launch
from programs.readout_program import examine
from test_trainer import ALONE
from tiny_run import MISSING, frames, run_mapping, write_run, write_yaml

PROGRAM = Path(__file__).parent / "programs" / "readout_program.py"
TO_ROUNDING = 1e-9
"""Of sums that a nearly singular problem is solved with."""
N_STRUCTURES = {"rmd17": 60, "monbtaw": 70, "qm22_formic_dimer": FEWEST_STRUCTURES}


@pytest.fixture(scope="module")
def config_file(tmp_path_factory) -> Path:
    """Three heads with enough structures, one of them with energies alone, and two with few."""
    folder = tmp_path_factory.mktemp("readouts")
    training = {**run_mapping(folder)["training"], "micro_batch_edges": 1000}
    path = write_run(folder, training=training)
    for name, number in N_STRUCTURES.items():
        found = frames(name)
        chosen = list(found[:: len(found) // number][:number])
        for place, without in MISSING.get(name, {}).items():
            chosen[place] = without(chosen[place])
        (folder / f"{name}-train.extxyz").write_text("".join(chosen))
    return path


@pytest.fixture(scope="module")
def config(config_file) -> RunConfig:
    return read_configuration(RunConfig, config_file)


@pytest.fixture(scope="module")
def one(config) -> dict[str, Any]:
    return json.loads(json.dumps(examine(config, ALONE)))


def test_heads_with_enough_structures_are_looked_at(one):
    assert set(one["found"]) == set(N_STRUCTURES)


def test_training_errors_fall(one):
    changed = [name for name, fit in one["found"].items() if fit is not None]
    assert {"monbtaw", "qm22_formic_dimer"} <= set(changed)
    for name in changed:
        before, after = one["before"]["errors"][name], one["after"]["errors"][name]
        assert after["energy_rmse_per_atom"] < 0.9 * before["energy_rmse_per_atom"]


def test_what_is_published_has_changed_by_what_was_found(one):
    for name in one["before"]["layers"][0]:
        fit = one["found"].get(name)
        change = np.subtract(one["after"]["layers"][0][name], one["before"]["layers"][0][name])
        np.testing.assert_allclose(change, fit["change"] if fit else 0.0, rtol=1e-9, atol=1e-12)


@pytest.mark.mpi
@pytest.mark.parametrize(("n_ranks", "reduction"), [(2, "sharded"), (3, "overlapped")])
def test_ranks_find_what_one_finds(config_file, one, n_ranks, reduction):
    mapping = yaml.safe_load(config_file.read_text(encoding="utf-8"))
    mapping["training"]["reduction"] = reduction
    path = write_yaml(config_file.with_name(f"{reduction}.yaml"), mapping)
    result = launch(PROGRAM, str(path), n_ranks=n_ranks)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert len(told["after"]["layers"]) == n_ranks
    for layers in told["after"]["layers"]:
        for name, layer in layers.items():
            np.testing.assert_allclose(
                layer, one["after"]["layers"][0][name], rtol=TO_ROUNDING, err_msg=name
            )
    for name, fit in one["found"].items():
        assert (told["found"][name] or {}).get("ridge") == (fit or {}).get("ridge")


def test_trained_weights_stay(config):
    trainer = Trainer(config, set_up(config, ALONE), ALONE)
    before = copied(trainer.potential)
    averages = [average.clone() for average in trainer.weights.average.shadow_params]
    found = fit_readouts(trainer)
    assert all(map(torch.equal, trainer.potential.parameters(), before))
    changed = [
        name
        for (name, _), old, new in zip(
            trainer.potential.named_parameters(),
            averages,
            trainer.weights.average.shadow_params,
            strict=True,
        )
        if not torch.equal(old, new)
    ]
    assert changed == [f"heads.{n}.readout.2.weight" for n, fit in found.items() if fit is not None]


def copied(potential: MultiHeadPotential) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in potential.parameters()]


def test_labels_without_a_weight_in_the_loss_do_not_count(config):
    """Without forces in the loss, energies get better than with them."""

    def energy_error(config: RunConfig) -> float:
        trainer = Trainer(config, set_up(config, ALONE), ALONE)
        fit_readouts(trainer)
        return trainer.errors("train")["monbtaw"]["energy_rmse_per_atom"]

    energies_alone = replace(config, loss=replace(config.loss, force_weight=0, stress_weight=0))
    assert energy_error(energies_alone) < energy_error(config)


def test_a_rank_that_is_asked_to_stop_ends_it(config):
    world = replace(ALONE, stop=StopRequest())
    world.stop.reason = "SIGTERM"
    trainer = Trainer(config, set_up(config, world), world)
    with pytest.raises(LeftEarlyError):
        fit_readouts(trainer)


def test_a_run_does_it_unless_told_not_to(config_file, tmp_path):
    mapping = yaml.safe_load(config_file.read_text(encoding="utf-8"))

    def errors(name: str, **training: Any) -> dict[str, float]:
        changed = {
            **mapping,
            "run": str(tmp_path / name),
            "training": {**mapping["training"], "steps": 3, **training},
        }
        path = write_yaml(tmp_path / f"{name}.yaml", changed)
        checkpoint = pretrain(read_configuration(RunConfig, path), ALONE)
        facts = json.loads((checkpoint / "training.json").read_text(encoding="utf-8"))
        return facts["heads"]["qm22_formic_dimer"]["valid"]

    with_it, without = errors("with"), errors("without", fit_readouts=False)
    assert with_it["energy_mae_per_atom"] < without["energy_mae_per_atom"]


def test_the_table_tells_what_became_of_each_head():
    fit = Solution(change=np.zeros(2), ridge=1e-4, held_out=(0.77, 1.04, None))
    told = fit_table({"steel": fit, "water": None}).splitlines()
    assert told[2].split() == ["steel", "0.0001", "-23", "%", "+4", "%", "-"]
    assert "as it was" in told[3]
