"""Where a run stands, drawn on a terminal of any size."""

from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gfm_pretrain.monitor.head_table import ALL, Column, columns_for, rows_for
from gfm_pretrain.monitor.state import RunState
from gfm_pretrain.monitor.status_lines import judged_line, model_line, speed_line, time_line
from gfm_pretrain.monitor.wording import duration, percent

GAP = 2
"""Spaces between columns."""
MOST_NAME, LEAST_NAME = 24, 8
"""Width of the names of heads: at most, and at least before columns are left out."""


class Dashboard:
    """Progress, a row for each head, and some lines of numbers.

    It takes the width there is when it is drawn, and with `fit_height` no more lines than the
    terminal has, of which `used` are taken already.
    """

    def __init__(self, state: RunState, *, fit_height: bool, used: int = 0) -> None:
        self.state = state
        self.fit_height = fit_height
        self.used = used

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """Draw it."""
        state = self.state
        lines = (judged_line(state), speed_line(state), time_line(state), model_line(state))
        below = Group(*(Text(line, style="dim") for line in lines if line))
        most = None
        if self.fit_height:
            # Beside the rows of heads there are progress, the header, and the line of the cursor.
            used = self.used + 3 + len(console.render_lines(below, options, pad=False))
            most = max(2, options.size.height - used)
        yield self._progress(options.max_width)
        yield self._table(options.max_width, most)
        yield below

    def _progress(self, width: int) -> RenderableType:
        state = self.state
        done = state.train.get("done", 0.0)
        text = f"step {state.step}/{state.total_steps}"
        left = duration(state.rates.get("seconds_left"))
        rest = f"{percent(done)}, {left} left" if done < 1 else "done"
        line = Table.grid(padding=(0, 1))
        line.add_row(
            Text(text, style="bold", no_wrap=True),
            ProgressBar(total=1.0, completed=done, width=max(4, width - len(text + rest) - 2)),
            Text(rest, no_wrap=True),
        )
        return line

    def _table(self, width: int, most: int | None) -> Table:
        columns = columns_for(self.state)
        rows = rows_for(self.state, columns, most=most)
        names = max(len("head"), *(len(row[0]) for row in rows), 0) if rows else LEAST_NAME
        names = min(names, MOST_NAME)
        kept = _that_fit(columns, rows, width - min(names, LEAST_NAME))
        taken = sum(_width(column, rows, columns) + GAP for column in kept)
        table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
        table.add_column("head", no_wrap=True, overflow="ellipsis", max_width=max(1, width - taken))
        for column in kept:
            table.add_column(column.title, justify="right", no_wrap=True)
        for name, *cells in rows:
            shown = [cell for cell, column in zip(cells, columns, strict=True) if column in kept]
            table.add_row(Text(name), *shown, style="bold" if name == ALL else None)
        return table


def _that_fit(
    columns: Sequence[Column], rows: Sequence[tuple[str, ...]], width: int
) -> list[Column]:
    kept = list(columns)
    while kept and sum(_width(column, rows, columns) + GAP for column in kept) > width:
        kept.remove(min(kept, key=lambda column: column.spared))
    return kept


def _width(column: Column, rows: Sequence[tuple[str, ...]], columns: Sequence[Column]) -> int:
    place = 1 + columns.index(column)
    return max(len(column.title), *(len(row[place]) for row in rows)) if rows else len(column.title)
