"""What a run has reached, head by head, in columns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gfm_pretrain.monitor.state import RunState
from gfm_pretrain.monitor.wording import number
from gfm_pretrain.table import text_table

ALL = "all"
"""Row of what is summed over heads."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One number of each head."""

    title: str
    """With the unit."""
    cell: Callable[[RunState, str], float | None]
    """The number of a head, if there is one."""
    of_all: Callable[[RunState], float | None]
    """Over all heads."""
    spared: int
    """Order in which columns are left out where there is no room, the smallest first."""


def _error(key: str, title: str, *, spared: int) -> Column:
    def cell(state: RunState, head: str) -> float | None:
        error = state.errors.get(head, {}).get(key)
        return None if error is None else 1e3 * error

    return Column(title=title, cell=cell, of_all=lambda _: None, spared=spared)


def _rate(state: RunState, head: str) -> float | None:
    return state.rates.get("heads", {}).get(head, {}).get("structures")


def _epochs(state: RunState, head: str) -> float | None:
    return state.rates.get("heads", {}).get(head, {}).get("epochs")


COLUMNS = (
    Column(title="loss", cell=RunState.loss_of, of_all=lambda state: state.loss, spared=9),
    _error("energy_mae_per_atom", "E meV/atom", spared=3),
    _error("forces_mae", "F meV/Å", spared=4),
    _error("stress_mae", "S meV/Å³", spared=0),
    Column(
        title="structures/s",
        cell=_rate,
        of_all=lambda state: state.rates.get("per_second", {}).get("structures"),
        spared=2,
    ),
    Column(title="epochs", cell=_epochs, of_all=lambda _: None, spared=1),
)
"""Errors are mean absolute errors of the last evaluation."""


def columns_for(state: RunState) -> list[Column]:
    """The columns in which some head has something."""
    return [c for c in COLUMNS if any(c.cell(state, head) is not None for head in state.heads)]


def rows_for(
    state: RunState, columns: Sequence[Column], *, most: int | None = None
) -> list[tuple[str, ...]]:
    """A row for each head and one for all; where there are more than `most`, some are left out."""
    heads = state.heads
    shown = heads if most is None or len(heads) < most else heads[: max(1, most - 2)]
    rows = [(head, *(number(column.cell(state, head)) for column in columns)) for head in shown]
    if len(shown) < len(heads):
        rows.append((f"… {len(heads) - len(shown)} more", *("" for _ in columns)))
    if len(heads) > 1:
        rows.append((ALL, *(_of_all(column, state) for column in columns)))
    return rows


def head_table(state: RunState) -> str:
    """All of it as text."""
    columns = columns_for(state)
    return text_table(("head", *(column.title for column in columns)), rows_for(state, columns))


def _of_all(column: Column, state: RunState) -> str:
    value = column.of_all(state)
    return "" if value is None else number(value)
