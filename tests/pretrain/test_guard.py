"""Which steps are skipped: from the numbers of the steps before, and from nothing else."""

import json
import math
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from gfm_pretrain.guard import Guard, GuardOptions

NORMS = {"backbone": 1.0, "a": 1.0, "b": 1.0}
WARMUP = 10
SEEDS = range(20)


def guard(*, warmup_steps: int = 0, **options) -> Guard:
    return Guard(GuardOptions(**options), warmup_steps=warmup_steps)


def skipped(of: Guard, losses: Iterable[float], start: int = 0) -> list[int]:
    """Steps that are skipped of a run of one head."""
    return [
        step
        for step, loss in enumerate(losses, start)
        if of.judge(step, {"a": loss}, {"backbone": 1.0, "a": 1.0})
    ]


def noisy(seed: int, n: int, *, spread: float = 1.0) -> np.ndarray:
    """Losses that fall by a factor of 100 and are as noisy as those of single structures."""
    random = np.random.default_rng(seed)
    return np.exp(spread * random.normal(size=n)) * 100 ** -np.linspace(0, 1, n)


@pytest.mark.parametrize("spread", [0.01, 0.3, 1.5])
@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_as_noisy_as_ever_is_no_spike(seed, spread):
    assert skipped(guard(), noisy(seed, 2000, spread=spread)) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_spike_is_skipped_and_nothing_else(seed):
    losses = noisy(seed, 400, spread=0.3)
    losses[[200, 300]] *= 1e3
    assert skipped(guard(), losses) == [200, 300]


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_a_spike_before_there_is_a_usual(seed):
    wild = np.exp(np.random.default_rng(seed).normal(scale=20, size=64))
    assert skipped(guard(window=64), wild) == []


def test_nothing_is_a_spike_while_the_learning_rate_rises():
    losses = [1.0] * 20 + [1e6] * 3
    assert skipped(guard(window=8, warmup_steps=23), losses) == []
    assert skipped(guard(window=8, warmup_steps=21), losses) == [21, 22]


@pytest.mark.parametrize("unit", [1e-9, 1e3])
def test_the_unit_of_the_loss_does_not_matter(unit):
    losses = noisy(0, 500, spread=0.3)
    losses[[99, 100, 400]] *= 1e4
    assert skipped(guard(), losses) == skipped(guard(), unit * losses) == [99, 100, 400]


def test_spikes_can_be_turned_off():
    losses = [1.0] * 100 + [1e300, math.inf]
    assert skipped(guard(spike_factor=None), losses) == [101]


def test_both_factor_and_deviations_must_be_exceeded():
    quiet = [1.0, 1.001] * 50
    assert skipped(guard(spike_factor=20), [*quiet, 19.0, 21.0]) == [101]
    loud = np.exp(np.random.default_rng(0).normal(size=100))  # a deviation of about 1
    assert skipped(guard(spike_deviations=4), [*loud, math.exp(3.1), math.exp(6)]) == [101]


def test_losses_of_zero_are_usual_too():
    assert skipped(guard(), [0.0] * 100 + [1e-290]) == [100]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_skipped_at_once(value):
    of = guard()
    (trouble,) = of.judge(0, {"a": 1.0, "b": value}, {**NORMS, "b": value, "backbone": value})
    assert (trouble.head, trouble.what, str(trouble.value)) == ("b", "loss", str(value))
    (trouble,) = of.judge(1, {"a": 1.0, "b": 1.0}, {**NORMS, "a": value, "backbone": value})
    assert (trouble.head, trouble.what) == ("a", "gradient")
    (trouble,) = of.judge(2, {"a": 1.0, "b": 1.0}, {**NORMS, "backbone": value})
    assert (trouble.head, trouble.what) == ("backbone", "gradient")
    assert of.skipped == {"b": 1, "a": 1, "backbone": 1}


def test_a_skipped_loss_is_not_usual():
    losses = [1.0] * 100 + [1e6] * 80
    assert skipped(guard(), losses) == list(range(100, 180))


@pytest.mark.parametrize("cut", [10, 64, 150, 201, 203])
def test_a_guard_that_is_restored_judges_as_if_nothing_had_happened(cut):
    losses = noisy(1, 400)
    losses[[200, 202, 203]] = 1e9, math.nan, 1e9
    straight, before, after = (guard(warmup_steps=WARMUP) for _ in range(3))
    expected = skipped(straight, losses)
    first = skipped(before, losses[:cut])
    after.restore(json.loads(json.dumps(before.facts())))
    assert [*first, *skipped(after, losses[cut:], cut)] == expected
    assert after.facts() == straight.facts()
    assert expected == [200, 202, 203]


def ends(of: Guard, broken: Sequence[bool]) -> int | None:
    """The step after which the run ends."""
    for step, is_broken in enumerate(broken):
        skipped(of, [math.nan if is_broken else 1.0], step)
        if of.check(step) is not None:
            return step
    return None


def test_a_run_ends_after_too_many_skips_in_a_row():
    assert ends(guard(most_in_a_row=3), [True] * 3) is None
    assert ends(guard(most_in_a_row=3), [True] * 4) == 3
    assert ends(guard(most_in_a_row=3), [True, True, True, False] * 3) is None
    assert ends(guard(most_in_a_row=0), [False, True]) == 1


def test_a_run_ends_after_too_many_skips_of_late():
    of_ten = [step % 10 == 0 for step in range(1000)]
    assert ends(guard(most_recent=9, recent_steps=100), of_ten) == 90
    assert ends(guard(most_recent=10, recent_steps=100), of_ten) is None


def test_why_a_run_ends():
    of = guard(most_in_a_row=1)
    skipped(of, [math.nan] * 2)
    assert of.check(1) == "2 steps in a row were skipped"
    of = guard(most_recent=1, recent_steps=100)
    skipped(of, [math.nan, 1.0, math.nan])
    assert of.check(2) == "2 of the last 100 steps were skipped"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("spike_factor", 1.0),
        ("spike_factor", math.nan),
        ("spike_deviations", -1),
        ("window", 7),
        ("most_in_a_row", -1),
        ("most_recent", -1),
        ("recent_steps", 0),
    ],
)
def test_absurd_options_are_named(option, value):
    with pytest.raises(ValueError, match=f"guard.{option} must"):
        guard(**{option: value})
