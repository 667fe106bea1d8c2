"""Times side by side as tables in Markdown, and as a plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from gfm_pretrain.table import markdown_table
from jaxtyping import Float
from matplotlib.figure import Figure

from peers.allocator import Allocator
from peers.interleaving import OURS, Times

Measured = Mapping[tuple[Allocator, str], Times]
"""By allocator and case."""

mpl.use("Agg")
COLORS = ("#1b6ca8", "#d1495b", "#8d1c2f", "#66a182", "#a7cbb5", "#2e6b4f", "#edae49")


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
        rows.append(
            (case, allocator, name, *(f"{n:.4g}" for n in numbers), *(f"{g:.2f}" for g in gains))
        )
    return rows


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
    figure = Figure(figsize=(1.5 + 2.2 * len(drawn), 4.0), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(names)
    for index, (name, color) in enumerate(zip(names, COLORS[1:], strict=False)):
        spread = [ratios(chosen(t, threads=threads), name) for t in drawn.values()]
        middles = np.array([np.median(r) for r in spread])
        ends = np.array([[m - r.min(), r.max() - m] for m, r in zip(middles, spread, strict=True)])
        places = np.arange(len(drawn)) + (index - (len(names) - 1) / 2) * width
        axes.bar(places, middles, 0.9 * width, yerr=ends.T, label=name, color=color, capsize=2)
        for place, middle, end in zip(places, middles, ends, strict=True):
            top = (0, 3)
            axes.annotate(
                f"{middle:.1f}",
                (place, middle + end[1]),
                top,
                textcoords="offset points",
                ha="center",
                fontsize=7,
            )
    axes.axhline(1.0, color=COLORS[0], linewidth=1.5, label=OURS)
    axes.set_yscale("log")
    axes.margins(y=0.12)
    axes.set_xticks(np.arange(len(drawn)), list(drawn))
    axes.set_ylabel("time of a model / ours")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=7, ncols=2, framealpha=0.9)
    figure.savefig(path, dpi=150)


def plot_scaling(sizes: Sequence[tuple[int, float, float]], path: Path) -> None:
    """Microseconds and kilobytes per atom against atoms.

    Args:
        sizes: Atoms, seconds, and peak megabytes above those of the loaded model.
        path: Of the picture.
    """
    atoms, seconds, megabytes = np.array(sizes).T
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    panels = figure.subplots(1, 2)
    shown = ((1e6 * seconds / atoms, "µs per atom"), (1e3 * megabytes / atoms, "kB per atom"))
    for axes, (values, label) in zip(panels, shown, strict=True):
        axes.plot(atoms, values, "o-", color=COLORS[0])
        axes.set_xscale("log")
        axes.set_ylim(0, 1.25 * values.max())
        axes.set_xlabel("atoms (water)")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
