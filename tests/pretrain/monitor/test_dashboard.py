import pytest
from gfm_pretrain.monitor.dashboard import Dashboard
from gfm_pretrain.monitor.head_table import head_table
from gfm_pretrain.monitor.state import RunState
from made_up_run import made_up_state
from rich.console import Console

SIXTEEN = [f"head_number_{n}" for n in range(16)]


def drawn(state: RunState, *, width: int, height: int, fit_height: bool = True) -> list[str]:
    console = Console(width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(Dashboard(state, fit_height=fit_height))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_one_head_has_a_row_and_no_sum():
    lines = drawn(made_up_state("water"), width=80, height=24)
    assert lines[0].startswith("step 3/5 ━")
    assert lines[0].endswith("60 %, 1:06:40 left")
    assert lines[1].split()[:3] == ["head", "loss", "E"]
    assert lines[2].split() == ["water", "0.611", "12.3", "45.6", "7.89", "40", "0.3"]
    assert not [line for line in lines if line.startswith("all")]
    assert "errors: mean absolute, before training" in lines
    assert "400 atoms/s, 4,000 edges/s, 10 steps/s" in lines
    assert any(line.startswith("time: data 10 %, forward 30 %, backward 40 %") for line in lines)
    assert "memory 1.23 GB, gradient norm 1.5, learning rate 1.00e-02" in lines


def test_several_ranks_are_compared():
    text = " ".join(drawn(made_up_state("water", ranks=4), width=200, height=24))
    assert "wait 15 % (40 % on rank 3)" in text
    assert "forward 30 %, backward" in text
    assert "balance 0.90, 2 kB sent per step and rank" in text
    assert "memory 1.23 GB on rank 0" in text


@pytest.mark.parametrize("width", [30, 44, 60, 80, 132, 250])
@pytest.mark.parametrize("height", [10, 24, 60])
@pytest.mark.parametrize("heads", [["water"], SIXTEEN])
def test_it_fits_into_any_terminal(width, height, heads):
    lines = drawn(made_up_state(*heads, ranks=4), width=width, height=height)
    assert max(map(len, lines)) <= width
    assert len(lines) < height
    assert any(line.startswith("head") for line in lines)
    assert [line for line in lines if line.startswith(heads[0][:7])]


def test_heads_that_there_is_no_room_for_are_counted():
    lines = drawn(made_up_state(*SIXTEEN), width=80, height=16)
    shown = [line for line in lines if line.startswith("head_number")]
    assert f"… {16 - len(shown)} more" in lines
    assert any(line.startswith("all ") and line.endswith("640") for line in lines)
    whole = drawn(made_up_state(*SIXTEEN), width=80, height=16, fit_height=False)
    assert sum(line.startswith("head_number") for line in whole) == 16


def test_narrow_terminals_are_spared_columns_not_digits():
    titles = {
        width: drawn(made_up_state("water"), width=width, height=24)[1] for width in (30, 60, 80)
    }
    assert titles[80].split() == [
        "head",
        "loss",
        "E",
        "meV/atom",
        "F",
        "meV/Å",
        "S",
        "meV/Å³",
        "structures/s",
        "epochs",
    ]
    assert "meV/Å³" not in titles[60]
    assert titles[30].split()[:2] == ["head", "loss"]
    assert "structures" not in titles[30]


def test_before_the_first_step_there_is_a_table_already():
    state = RunState()
    assert drawn(state, width=80, height=24)
    state = made_up_state("a", "b", n_steps=1)
    state.rates = {}
    assert [line for line in drawn(state, width=80, height=24) if line.startswith("b ")]


def test_as_text_it_has_all_heads():
    rows = head_table(made_up_state(*SIXTEEN)).splitlines()
    assert rows[0].split()[:2] == ["head", "loss"]
    assert rows[2].split() == ["head_number_0", "0.611", "12.3", "45.6", "7.89", "40", "0.3"]
    assert rows[-1].split() == ["all", "9.78", "640"]
    assert len(rows) == 19
