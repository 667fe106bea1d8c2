import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from gfm_models.loss import LossConfig
from gfm_pretrain import cost_measurement
from gfm_pretrain.config import RunConfig
from gfm_pretrain.configuration import read_configuration
from gfm_pretrain.cost import StepCost
from gfm_pretrain.cost_measurement import Candidate, measure_cost, time_passes
from gfm_pretrain.cost_record import COST_FILE, record_cost, recorded_cost
from gfm_pretrain.process import World
from gfm_pretrain.setup import Setup, needs_measurement, relative_cost, set_up
from tiny_run import write_run

ALONE = World(
    rank=0, size=1, local_rank=0, local_size=1, launcher="single", device=torch.device("cpu")
)
LIMIT = 400


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> RunConfig:
    return read_configuration(RunConfig, write_run(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def setup(config) -> Setup:
    return set_up(config, ALONE)


@pytest.fixture(scope="module")
def candidates(setup) -> list[Candidate]:
    return [
        Candidate(name=name, structures=sets["train"], unit=setup.summaries[name].unit)
        for name, sets in setup.data.items()
    ]


def timed(setup: Setup, candidates: list[Candidate]) -> np.ndarray:
    return time_passes(setup.potential, candidates, loss=LossConfig(), micro_batch_edges=LIMIT)


def test_passes_grow_up_to_the_limit_and_differ_in_composition(setup, candidates, monkeypatch):
    monkeypatch.setattr(cost_measurement, "_seconds_of", lambda run, _: run() or 1e-3)
    for candidate in candidates:
        _, n_edges, _ = timed(setup, [candidate]).T
        assert (np.diff(n_edges) > 0).all()
        assert n_edges[-1] <= LIMIT
    assert len(timed(setup, candidates[:1])) > 1
    n_atoms, n_edges, seconds = timed(setup, candidates).T
    density = n_edges / n_atoms
    assert density.max() > 2 * density.min()
    assert (seconds == 1e-3).all()


def test_passes_that_take_long_are_not_timed(setup, candidates, monkeypatch):
    monkeypatch.setattr(cost_measurement, "_seconds_of", lambda run, _: 10.0)
    assert len(timed(setup, candidates[:1])) == 1


def test_seconds_are_those_of_the_thread(monkeypatch):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        asleep = cost_measurement._seconds_of(lambda: time.sleep(0.2), torch.device("cpu"))
    finally:
        torch.set_num_threads(threads)
    assert asleep < 0.1


def test_what_is_timed_gives_a_cost(setup, candidates):
    found = measure_cost(
        setup.potential, candidates, loss=LossConfig(), micro_batch_edges=LIMIT, world=ALONE
    )
    assert found is not None
    assert found.per_pass > 0
    assert found.seconds(n_passes=1, n_atoms=30, n_edges=300) < 10


def test_without_data_nothing_is_measured(setup):
    found = measure_cost(
        setup.potential, [], loss=LossConfig(), micro_batch_edges=LIMIT, world=ALONE
    )
    assert found is None


MEASURED = StepCost(per_pass=0.1, per_atom=3e-3, per_edge=1e-3, residual=0.1 + 0.2, n_timings=7)


def test_what_was_measured_is_found_again(tmp_path):
    assert recorded_cost(tmp_path, ALONE) is None
    record_cost(tmp_path, MEASURED, ALONE)
    assert recorded_cost(tmp_path, ALONE) == MEASURED


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"per_pass": 1.0}'])
def test_a_damaged_record_is_none(tmp_path, content):
    record_cost(tmp_path, MEASURED, ALONE)
    (tmp_path / COST_FILE).write_text(content)
    assert recorded_cost(tmp_path, ALONE) is None


def training(config: RunConfig, **options) -> RunConfig:
    return replace(config, training=replace(config.training, **options))


def test_the_configuration_comes_before_what_was_measured(config):
    given = training(config, cost_of_atom=7.0, cost_of_pass="measure")
    assert relative_cost(given, MEASURED).of_atom == 7.0
    assert relative_cost(given, MEASURED).of_pass == 128.0
    assert relative_cost(given, None).of_pass == 0.0
    assert not needs_measurement(given, ALONE)  # one rank has nothing to balance


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("cost_of_atom", 0.0, "cost_of_atom must be positive, got 0.0"),
        ("cost_of_pass", -1.0, "cost_of_pass must not be negative, got -1.0"),
    ],
)
def test_a_cost_that_cannot_be_is_an_error(config, option, value, said):
    with pytest.raises(ValueError, match=said):
        training(config, **{option: value})
