"""Times side by side as tables in Markdown, and as a plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from gfm_pretrain.table import markdown_table
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from peers.allocator import Allocator
from peers.interleaving import OURS, Times

Measured = Mapping[tuple[Allocator, str], Times]
"""By allocator and case."""

mpl.use("Agg")
COLORS = ("#000000", "#e69f00", "#a86800", "#0072b2", "#56b4e9", "#003f66", "#999999")
"""Ours, then the others; told apart also by those who do not see red and green."""


def chosen(times: Times, *, threads: int) -> Mapping[str, Float[np.ndarray, " rounds"]]:
    """Of the processor for one thread, which others on the machine hardly disturb; or the clock."""
    return times.cpu if threads == 1 else times.wall


def ratios(
    times: Mapping[str, Float[np.ndarray, " rounds"]], name: str
) -> Float[np.ndarray, " rounds"]:
    """How many times as long as ours a model took in each round."""
    return times[name] / times[OURS]


def quantities(measured: Measured, *, threads: int, unit: str) -> str:
    """The table of all cases.

    Args:
        measured: Times.
        threads: Of a model.
        unit: "µs/atom" or "structures/s".
    """
    header = ("case", "allocator", "model", unit, "min", "max", "clock", "× ours", "min", "max")
    rows = [
        row
        for (allocator, case), times in measured.items()
        for row in _rows(case, allocator, times, threads=threads, unit=unit)
    ]
    return markdown_table(header, rows)


def _rows(
    case: str, allocator: Allocator, times: Times, *, threads: int, unit: str
) -> list[tuple[object, ...]]:
    seconds, rows = chosen(times, threads=threads), []
    for name, own in seconds.items():
        values = in_unit(own, times.size, unit)
        clock = np.median(in_unit(times.wall[name], times.size, unit))
        ratio = ratios(seconds, name)
        numbers = (np.median(values), values.min(), values.max(), clock)
        gains = (np.median(ratio), ratio.min(), ratio.max())
        rows.append((case, allocator, name, *map(_rounded, numbers), *(f"{g:.2f}" for g in gains)))
    return rows


def _rounded(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def in_unit(
    seconds: Float[np.ndarray, " rounds"], size: int, unit: str
) -> Float[np.ndarray, " rounds"]:
    """Seconds of a call as what the table shows."""
    return 1e6 * seconds / size if unit == "µs/atom" else size / seconds


def plot_ratios(measured: Measured, path: Path, *, threads: int, title: str) -> None:
    """Bars of how many times as long as ours each model took, and lines over all rounds.

    Args:
        measured: Times, of which those with the first allocator are drawn.
        path: Of the picture.
        threads: Of a model.
        title: Of the picture.
    """
    plotted = next(iter(measured))[0]
    drawn = {case: times for (allocator, case), times in measured.items() if allocator == plotted}
    names = [name for name in next(iter(drawn.values())).cpu if name != OURS]
    figure = Figure(figsize=(2.2 + 2.2 * len(drawn), 4.0), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(names)
    for index, (name, color) in enumerate(zip(names, COLORS[1:], strict=False)):
        spread = [ratios(chosen(times, threads=threads), name) for times in drawn.values()]
        middles = np.array([np.median(ratio) for ratio in spread])
        ends = np.abs([[r.min(), r.max()] for r in spread] - middles[:, None])
        places = np.arange(len(drawn)) + (index - (len(names) - 1) / 2) * width
        axes.bar(places, middles - 1, 0.9 * width, bottom=1, label=name, color=color)
        axes.errorbar(places, middles, ends.T, fmt="none", ecolor="black", capsize=2)
        for place, ratio in zip(places, spread, strict=True):
            _label(axes, place, ratio)
    axes.axhline(1.0, color=COLORS[0], linewidth=2, label=OURS)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.margins(y=0.12)
    axes.set_xticks(np.arange(len(drawn)), list(drawn))
    axes.set_ylabel("time of a model / ours")
    axes.set_title(title, fontsize=10)
    figure.legend(fontsize=8, loc="outside right center", frameon=False)
    figure.savefig(path, dpi=150)


def _label(axes: Axes, place: float, ratio: Float[np.ndarray, " rounds"]) -> None:
    """The median beyond the end of its bar."""
    middle, above = np.median(ratio), np.median(ratio) > 1
    axes.annotate(
        f"{middle:.3g}",
        (place, float(ratio.max() if above else ratio.min())),
        (0, 3 if above else -3),
        textcoords="offset points",
        ha="center",
        va="bottom" if above else "top",
        fontsize=7,
    )


def show_learning(axes: Axes, times: Sequence[float]) -> None:
    """Plain numbers at a logarithmic scale; of times those at which errors are known."""
    axes.set_xticks(list(times), [f"{seconds:.0f}" for seconds in times])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    for format_of in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        format_of("{x:g}")
