import pytest
from gfm_pretrain.schedule import learning_rate, progress
from gfm_pretrain.training_options import TrainingOptions

OPTIONS = TrainingOptions(steps=100, learning_rate=1e-2, final_learning_rate=1e-4, warmup_steps=9)


def test_progress_is_that_of_the_steps():
    found = [progress(step, 1e9, total_steps=100, max_minutes=None) for step in (0, 25, 100)]
    assert found == [0.0, 0.25, 1.0]


@pytest.mark.parametrize(
    ("step", "seconds", "done"),
    [(0, 0.0, 0.0), (50, 30.0, 0.5), (50, 90.0, 0.75), (1, 120.0, 1.0), (1, 500.0, 1.0)],
)
def test_progress_is_that_of_the_time_where_it_is_ahead(step, seconds, done):
    assert progress(step, seconds, total_steps=100, max_minutes=2.0) == done


def test_the_rate_rises_linearly_to_the_largest():
    rates = [learning_rate(step, 0.0, OPTIONS) for step in range(12)]
    assert rates[:10] == pytest.approx([1e-3 * n for n in range(1, 11)])
    assert rates[9:] == [1e-2] * 3


def test_the_rate_falls_as_a_cosine_to_the_final_one():
    assert learning_rate(50, 0.5, OPTIONS) == pytest.approx((1e-2 + 1e-4) / 2)
    assert learning_rate(99, 1.0, OPTIONS) == pytest.approx(1e-4)
    rates = [learning_rate(50, done / 20, OPTIONS) for done in range(21)]
    assert rates == sorted(rates, reverse=True)


def test_without_warm_up_the_first_step_has_the_largest_rate():
    options = TrainingOptions(steps=10, warmup_steps=0, learning_rate=3e-3)
    assert learning_rate(0, 0.0, options) == 3e-3
