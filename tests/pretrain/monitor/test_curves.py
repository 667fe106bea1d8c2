import numpy as np
import pytest
from gfm_pretrain.monitor.curves import Curves, plot_curves, running_mean
from gfm_pretrain.plan.ownership_picture import head_colours
from made_up_run import made_up_records
from matplotlib.colors import to_hex


def records_of(*heads: str):
    records = made_up_records(*heads, n_steps=60, total_steps=60)
    errors = {"energy_mae_per_atom": 0.002, "forces_mae": 0.003, "forces_rmse": 9.0}
    nan = {"kind": "train", "step": 61, "losses": dict.fromkeys(heads), "skipped": True}
    return [
        *records,
        {"kind": "valid", "step": 30, "heads": dict.fromkeys(heads, errors)},
        {"kind": "valid", "step": 60, "heads": {head: {"forces_mae": 0.001} for head in heads}},
        {**records[0], "step": 60},
        {**records[1], "step": 60},
        nan,
        {"kind": "something new", "step": 61},
    ]


def test_curves_are_what_was_recorded():
    curves = Curves(records_of("a", "b"))
    assert curves.heads == ["a", "b"]
    assert curves.starts == [0, 60]
    steps, losses = curves.losses["b"]
    assert steps == list(range(1, 61))
    assert losses == [1.0 / step for step in steps]
    assert curves.errors["valid", "forces_mae", "a"] == ([30, 60], [3.0, 1.0])
    assert curves.errors["valid", "energy_mae_per_atom", "a"] == ([30], [2.0])
    assert curves.errors["before", "stress_mae", "a"] == ([0], [7.89])
    assert not [key for key in curves.errors if "forces_rmse" in key]


def test_the_mean_runs_over_a_window():
    values = np.random.default_rng(0).random(12)
    expected = [values[max(0, end - 5) : end].mean() for end in range(1, 13)]
    assert running_mean(values, 5) == pytest.approx(expected)


@pytest.mark.parametrize("n_heads", [1, 16])
def test_they_are_drawn(tmp_path, n_heads):
    heads = [f"head{n}" for n in range(n_heads)]
    plot_curves(Curves(records_of(*heads)), tmp_path / "curves.svg", title="a run")
    text = (tmp_path / "curves.svg").read_text()
    # Of each head: two lines of losses, and two of each kind of error with points at both.
    for colour in map(to_hex, head_colours(heads).values()):
        assert text.count(colour) >= 8
    with pytest.raises(ValueError, match="not supported"):
        plot_curves(Curves(records_of("a")), tmp_path / "curves.txt", title="a run")


def test_a_run_without_steps_is_drawn_too(tmp_path):
    plot_curves(Curves(made_up_records("a")[:1]), tmp_path / "curves.png", title="a run")
    assert (tmp_path / "curves.png").stat().st_size > 1000
