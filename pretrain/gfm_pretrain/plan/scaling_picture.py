"""Strong and weak scaling in a picture: step time, efficiency, memory and traffic over ranks."""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from gfm_pretrain.plan.machine import CASES
from gfm_pretrain.plan.ownership_picture import SETTINGS
from gfm_pretrain.plan.prediction import Prediction
from gfm_pretrain.plan.scaling import Scaling
from gfm_pretrain.plan.strategy import STRATEGIES

COLOURS = {
    "ddp": "#7f7f7f",
    "wrap-around": "#1f77b4",
    "whole-ranks": "#ff7f0e",
    "sharded": "#2ca02c",
}
LINES = {"ddp": "-", "wrap-around": "-", "whole-ranks": "-", "sharded": "--"}
"""Broken where one line lies on another."""
MARKERS = {"ddp": "s", "wrap-around": "o", "whole-ranks": "D", "sharded": "^"}


def plot_scaling(scaling: Scaling, path: Path, *, title: str) -> None:
    """Draw four panels into a file of the kind that its suffix says: PNG, SVG or PDF.

    Raises:
        ValueError: matplotlib does not write this kind of file; the message lists the kinds.
    """
    with mpl.rc_context({**SETTINGS, "axes.titleweight": "normal"}):
        figure = Figure(figsize=(10, 7), layout="constrained", facecolor="white")
        (upper, right), (lower, last) = figure.subplots(2, 2, sharex=True)
        _draw_seconds(upper, scaling)
        _draw_efficiency(right, scaling)
        _draw_plain(
            lower, scaling, "largest memory of a rank (GiB)", lambda p: p.memory_bytes / 2**30
        )
        lower.axhline(scaling.question.machine.memory_gib, color="black", lw=1, ls=":")
        _draw_plain(last, scaling, "sent by a rank in a step (MB)", lambda p: p.bytes_sent / 1e6)
        for axes in (upper, right, lower, last):
            _finish(axes, scaling)
        for axes in (lower, last):
            axes.set_xlabel("ranks")
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=10)
        figure.legend(
            handles=upper.get_lines()[: len(scaling.predictions)],
            loc="outside lower center",
            ncols=len(scaling.predictions),
            frameon=False,
            fontsize=8,
        )
        figure.savefig(path, dpi=110)


def _draw_seconds(axes: Axes, scaling: Scaling) -> None:
    for name, predictions in scaling.predictions.items():
        bands = [[1e3 * p.mean(case, "seconds") for p in predictions] for case in CASES]
        _draw_band(axes, name, predictions, bands)
    axes.set_yscale("log")
    axes.set_title("step time (ms)")


def _draw_efficiency(axes: Axes, scaling: Scaling) -> None:
    for name, predictions in scaling.predictions.items():
        bands = [scaling.efficiency(name, case) for case in CASES]
        _draw_band(axes, name, predictions, bands)
    axes.axhline(1.0, color="black", lw=1)
    axes.set_ylim(0, 1.15)
    axes.set_title("throughput per rank, relative to DDP on the fewest ranks")


def _draw_band(
    axes: Axes, name: str, predictions: tuple[Prediction, ...], bands: list[list[float]]
) -> None:
    """The likely values as a line, and what lies between all cases as a band."""
    numbers = [p.n_ranks for p in predictions]
    low = [min(values) for values in zip(*bands, strict=True)]
    high = [max(values) for values in zip(*bands, strict=True)]
    axes.plot(
        numbers,
        bands[CASES.index("likely")],
        color=COLOURS[name],
        marker=MARKERS[name],
        ms=3.5,
        lw=1.4,
        ls=LINES[name],
        label=STRATEGIES[name].title,
    )
    axes.fill_between(numbers, low, high, color=COLOURS[name], alpha=0.13, lw=0)


def _draw_plain(
    axes: Axes, scaling: Scaling, title: str, value: Callable[[Prediction], float]
) -> None:
    for name, predictions in scaling.predictions.items():
        axes.plot(
            [p.n_ranks for p in predictions if value(p)],
            [value(p) for p in predictions if value(p)],
            color=COLOURS[name],
            marker=MARKERS[name],
            ms=3.5,
            lw=1.4,
            ls=LINES[name],
        )
    axes.set_ylim(0, None)
    axes.set_title(title)


def _finish(axes: Axes, scaling: Scaling) -> None:
    """Ranks on a logarithmic axis, and a line where the machine ends."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.tick_params(axis="x", labelsize=7.5, labelrotation=45)
    axes.grid(alpha=0.25, lw=0.6)
    most = scaling.question.machine.most_ranks
    numbers = [p.n_ranks for of_one in scaling.predictions.values() for p in of_one]
    if most < max(numbers):
        axes.axvline(most, color="black", lw=1, ls="--")
