import pytest
from gfm_pretrain.agreement import ACTIVITIES
from gfm_pretrain.monitor.rates import FEWEST_STEPS, WINDOW_SECONDS, RateWindow
from made_up_run import SECONDS, made_up_step

LOSSES = {"a": 1.0, "b": 2.0}


def window_of(n_steps: int, *, seconds_per_step: float = 0.1, own=SECONDS) -> RateWindow:
    window = RateWindow(clock=5.0, wall=100.0)
    for step in range(1, n_steps + 1):
        passed = step * seconds_per_step
        window.add(
            made_up_step(step, LOSSES), own_activities=own, clock=5.0 + passed, wall=100.0 + passed
        )
    return window


def test_rates_are_amounts_over_the_time_of_training():
    rates = window_of(20).rates()
    assert rates.steps == 20
    assert rates.seconds == pytest.approx(2.0)
    assert rates.seconds_per_step == pytest.approx(0.1)
    assert rates.heads["a"] == pytest.approx({"structures": 40, "atoms": 400, "edges": 4000})
    assert rates.balance == pytest.approx(0.9)
    assert rates.bytes_per_step == pytest.approx(2000)
    assert rates.paused == pytest.approx(0.0)


def test_a_head_that_a_step_lacks_has_less():
    window = window_of(9)
    window.add(made_up_step(10, {"b": 1.0}), own_activities=SECONDS, clock=6.0, wall=101.0)
    assert window.rates().heads["b"]["structures"] == pytest.approx(40)
    window.add(made_up_step(11, LOSSES), own_activities=SECONDS, clock=6.1, wall=101.1)
    assert window.rates().heads["a"]["structures"] == pytest.approx(4 * 10 / 1.1)


def test_a_pause_slows_no_rate_down_and_is_told():
    window = window_of(9)
    window.add(made_up_step(10, LOSSES), own_activities=SECONDS, clock=6.0, wall=104.0)
    rates = window.rates()
    assert rates.heads["a"]["structures"] == pytest.approx(40)
    assert rates.paused == pytest.approx(0.75)


def test_old_steps_leave_the_window_but_a_few_stay():
    slow = window_of(50, seconds_per_step=20.0).rates()
    assert slow.steps == FEWEST_STEPS
    assert slow.seconds == pytest.approx(20.0 * FEWEST_STEPS)
    fast = window_of(700, seconds_per_step=0.5).rates()
    assert fast.seconds == pytest.approx(WINDOW_SECONDS, abs=0.51)
    assert fast.heads["a"]["structures"] == pytest.approx(8)


def test_the_parts_of_the_time_sum_to_one():
    rates = window_of(20, seconds_per_step=0.125).rates()
    assert list(rates.time) == [*ACTIVITIES, "other"]
    assert rates.time["forward"] == pytest.approx(0.03 / 0.125)
    assert rates.time["other"] == pytest.approx(0.2)
    assert sum(rates.time.values()) == pytest.approx(1.0)


def test_a_rank_whose_clock_is_ahead_spends_no_more_than_all():
    own = {"forward": 0.15, "wait": 0.05}
    rates = window_of(20, own=own).rates()
    assert rates.own_time["forward"] == pytest.approx(0.75)
    assert rates.own_time["other"] == 0.0
