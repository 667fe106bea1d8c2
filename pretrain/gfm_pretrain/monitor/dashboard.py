"""Where a run stands, drawn on a terminal of any size."""

from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gfm_pretrain.monitor.head_table import ALL, Column, fill
from gfm_pretrain.monitor.state import RunState
from gfm_pretrain.monitor.status_lines import judged_line, model_line, speed_line, time_line
from gfm_pretrain.monitor.wording import duration, percent

GAP = 2
"""Spaces between columns."""
MOST_NAME, LEAST_NAME = 24, 8
"""Width of the names of heads: at most, and at least before columns are left out."""
FEWEST_ROWS = 3
"""Of the table, before lines below it are left out."""


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
        below, most = self._below(), None
        if self.fit_height:
            below, most = _fitted(below, console, options, height=options.size.height - self.used)
        yield self._progress(options.max_width)
        yield from self._table(options.max_width, most)
        yield Group(*(Text(line, style="dim") for line in below))

    def _below(self) -> list[str]:
        state = self.state
        lines = (judged_line(state), speed_line(state), time_line(state), model_line(state))
        return [line for line in lines if line]

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

    def _table(self, width: int, most: int | None) -> Iterator[RenderableType]:
        """Lines of text: a table of rich takes ten times as long to lay out."""
        names, columns = fill(self.state, most=most)
        longest = min(MOST_NAME, max(map(len, ("head", *names))))
        columns = _that_fit(columns, width - min(longest, LEAST_NAME))
        left = width - sum(column.width + GAP for column in columns)
        rows = [("head", *(column.title for column in columns))]
        rows += [(name, *(c.cells[place] for c in columns)) for place, name in enumerate(names)]
        widths = [column.width + GAP for column in columns]
        for name, *cells in rows:
            right = "".join(cell.rjust(w) for cell, w in zip(cells, widths, strict=True))
            line = _cut(name, min(longest, left)) + right
            yield Text(line, style="bold" if name in ("head", ALL) else "", no_wrap=True)


def _cut(name: str, width: int) -> str:
    return name.ljust(width) if len(name) <= width else f"{name[: max(0, width - 1)]}…"


def _that_fit(columns: Sequence[Column], width: int) -> list[Column]:
    kept = list(columns)
    while kept and sum(column.width + GAP for column in kept) > width:
        kept.remove(min(kept, key=lambda column: column.spared))
    return kept


def _fitted(
    lines: Sequence[str], console: Console, options: ConsoleOptions, *, height: int
) -> tuple[list[str], int]:
    """The first of the lines, such that some heads have room above, and rows there are for heads.

    Besides there are progress, the header of the table, and the line of the cursor.
    """
    kept = list(lines)
    while True:
        taken = sum(len(console.render_lines(Text(line), options)) for line in kept)
        rows = height - 3 - taken
        if rows >= FEWEST_ROWS or not kept:
            return kept, max(rows, FEWEST_ROWS)
        kept.pop()
