import sys

import pytest
from gfm_pretrain.monitor.options import MonitorOptions, WandbOptions
from gfm_pretrain.monitor.scalars import scalars
from gfm_pretrain.monitor.sink import Guarded
from gfm_pretrain.monitor.sinks import check_installed, open_sinks
from made_up_run import made_up_records

EVERYTHING = MonitorOptions(tensorboard=True, wandb=WandbOptions(project="p", mode="offline"))


@pytest.mark.parametrize("package", ["tensorboard", "wandb"])
def test_what_is_asked_for_and_missing_is_named_with_two_ways_out(monkeypatch, package):
    check_installed(EVERYTHING)
    monkeypatch.setitem(sys.modules, package, None)
    check_installed(MonitorOptions())
    with pytest.raises(ValueError, match=f"needs the package {package}: pip install") as error:
        check_installed(EVERYTHING)
    assert f"'gfmcalc[{package}]', or leave monitor.{package} out" in str(error.value)


def test_nobody_gets_what_nobody_asked_for(tmp_path):
    options = MonitorOptions()
    assert (
        open_sinks(tmp_path, options, step=0, run_id="a", settings={}, complain=pytest.fail) == []
    )
    assert list(tmp_path.iterdir()) == []


class Broken:
    """A service that is down."""

    def __init__(self) -> None:
        self.calls = 0

    def write(self, record) -> None:
        self.calls += 1
        raise ConnectionError("no route\nto host")

    def close(self, *, failed: bool) -> None:
        raise AssertionError


def test_a_failure_elsewhere_is_told_once_and_ends_only_that():
    said: list[str] = []
    broken = Broken()
    sink = Guarded(broken, "TensorBoard", complain=said.append)
    sink.write({})
    sink.write({})
    sink.close(failed=False)
    assert said == ["TensorBoard gets no more of this run: no route to host"]
    assert broken.calls == 1


def test_records_are_numbers_with_names():
    run, before, train, *_, rates = made_up_records("water")
    assert scalars(run) == {}
    assert scalars(before)["before/water/forces_mae"] == 0.0456
    assert scalars(train) == {
        "train/loss": 1.0,
        "train/losses/water": 1.0,
        "train/gradient_norm": 1.5,
        "train/learning_rate": 0.01,
    }
    found = scalars(rates)
    assert found["rates/water/structures"] == pytest.approx(40)
    assert found["rates/time_mean/forward"] == pytest.approx(0.3)
    assert found["rates/time_max/wait/part"] == 0.4
    assert found["rates/memory_max/resident/bytes"] == 1.23e9
    assert scalars({"kind": "train", "losses": {"a": None}}) == {}


@pytest.mark.parametrize("options", [{"every_seconds": 0}, {"every_seconds": float("nan")}])
def test_options_are_checked(options):
    with pytest.raises(ValueError, match=r"monitor\.every_seconds must be positive, got"):
        MonitorOptions(**options)


def test_steps_that_are_done_again_replace_those_in_tensorboard(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train = made_up_records("water")[2]
    for start, value in ((0, 1.0), (2, 5.0)):
        options = MonitorOptions(tensorboard=True)
        (sink,) = open_sinks(
            tmp_path, options, step=start, run_id="a", settings={}, complain=pytest.fail
        )
        for step in range(start + 1, 5):
            sink.write({**train, "step": step, "loss": value})
        sink.close(failed=False)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = {event.step: event.value for event in events.Scalars("train/loss")}
    assert shown == {1: 1.0, 2: 1.0, 3: 5.0, 4: 5.0}
