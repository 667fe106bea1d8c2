import pytest
from gfm_pretrain.monitor.status_lines import judged_line, model_line, progress_line, time_line
from gfm_pretrain.monitor.wording import duration, number, size
from made_up_run import made_up_state


def test_a_few_losses_are_listed():
    assert progress_line(made_up_state("a", "b")) == (
        "step 3/5, 1:06:40 left, 80 structures/s, loss: a 0.611 b 0.611"
    )


def test_many_losses_are_summed_and_the_largest_is_named():
    state = made_up_state(*map(str, range(8)))
    losses = {str(n): 1.0 for n in range(7)} | {"7": 9.0}
    state.add({"kind": "train", "step": 4, "losses": losses, "loss": 16.0, "skipped": False})
    assert progress_line(state).endswith("loss: 7.67 over 8 heads, largest 7 2.71")


def test_skipped_steps_are_counted_and_leave_the_loss_alone():
    state = made_up_state("a")
    nan = float("nan")
    for loss in (nan, None):  # as it comes, and as it is read from a file
        skipped = {"losses": {"a": loss}, "loss": loss, "gradient_norm": loss}
        state.add({"kind": "train", "step": 4, "skipped": True, "learning_rate": 0.01, **skipped})
    assert state.n_skipped == 2
    assert state.loss_of("a") == pytest.approx(0.611, abs=1e-3)
    assert model_line(state).endswith("learning rate 1.00e-02, 2 steps skipped")


def test_pauses_are_told_apart():
    state = made_up_state("a")
    assert "paused" not in time_line(state)
    state.rates["window"]["paused"] = 0.25
    assert time_line(state).endswith("other 0 %, besides 25 % paused")


def test_it_is_said_where_errors_are_from():
    state = made_up_state("a")
    assert judged_line(state) == "errors: mean absolute, before training"
    state.add({"kind": "valid", "step": 4, "heads": {"a": {"forces_mae": 0.2}}})
    assert judged_line(state) == "errors: mean absolute, validation at step 4"
    assert state.errors["a"] == {"forces_mae": 0.2}
    joined = {"a": {"forces_mae": 9.0}, "new": {"forces_mae": 1.0}}
    state.add({"kind": "before", "step": 4, "heads": joined})
    assert judged_line(state).endswith("validation at step 4")
    assert state.errors == {"a": {"forces_mae": 0.2}, "new": {"forces_mae": 1.0}}


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0:00"), (59.6, "1:00"), (4000, "1:06:40"), (float("nan"), "unknown time"), (None,) * 2],
)
def test_durations(seconds, said):
    assert duration(seconds) == (said or "unknown time")


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.012345, "0.0123"), (45.67, "45.7"), (123.4, "123"), (1234567.0, "1,234,567"), (None, "-")],
)
def test_numbers(value, said):
    assert number(value) == said


def test_sizes():
    assert [size(n) for n in (0, 999, 54_600, 1.23e9, 5e13)] == [
        *("0 B", "999 B", "54.6 kB", "1.23 GB", "5e+04 GB")
    ]
