"""Who owns what, in a picture: heads as bars over ranks, and the load of each rank."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gfm_pretrain.plan.dealing import Dealt, mean_load
from gfm_pretrain.plan.workload import Owners

MOST_COLUMNS = 800
"""Of the picture of loads; more ranks are drawn several in a column."""
THINNEST = 1 / 400
"""Part of the width that the bar of a head has at least, or one rank of thousands is not seen."""
SETTINGS: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "plan",
}


def plot_ownership(owners: Owners, steps: Sequence[Dealt], path: Path, *, title: str) -> None:
    """Draw who owns what into a file of the kind that its suffix says: PNG, SVG or PDF.

    Raises:
        ValueError: matplotlib does not write this kind of file; the message lists the kinds.
    """
    colours = head_colours(list(owners))
    with mpl.rc_context(SETTINGS):
        height = 3.6 + 0.26 * len(owners)
        figure = Figure(figsize=(10, height), layout="constrained", facecolor="white")
        upper, lower = figure.subplots(
            2, 1, sharex=True, height_ratios=[2.6, 0.6 + 0.26 * len(owners)]
        )
        _draw_load(upper, steps, list(colours.values()))
        upper.set_title(title)
        _draw_bars(lower, owners, steps[0].load.size, colours)
        figure.savefig(path, dpi=130)


def head_colours(names: Sequence[str]) -> dict[str, Any]:
    """A colour for each head, as different as so many can be."""
    for name, most in (("tab10", 10), ("tab20", 20)):
        if len(names) <= most:
            listed = mpl.colormaps[name]
            return {head: listed(place) for place, head in enumerate(names)}
    spread = mpl.colormaps["turbo"](np.linspace(0.03, 0.97, len(names)))
    return dict(zip(names, spread, strict=True))


def _draw_load(axes: Axes, steps: Sequence[Dealt], colours: Sequence[Any]) -> None:
    """Cost of each rank by head, stacked, and the dearest rank of each step as a line."""
    load = mean_load(steps)
    n_ranks = load.shape[1]
    edges, columns = _columns(load)
    bottom = np.zeros(columns.shape[1])
    for height, colour in zip(columns, colours, strict=True):
        axes.stairs(bottom + height, edges, baseline=bottom, fill=True, color=colour)
        bottom = bottom + height
    if n_ranks <= 64:
        axes.vlines(edges[1:-1], 0, np.minimum(bottom[1:], bottom[:-1]), color="white", lw=0.6)
    axes.axhline(1.0, color="black", lw=1.2)
    worst = float(np.mean([dealt.load.max() / dealt.load.mean() for dealt in steps]))
    axes.axhline(worst, color="black", lw=1.0, ls="--")
    top = 1.25 * max(worst, bottom.max())
    for y, text, side in (
        (1.0, "mean", "top"),
        (worst, f"dearest rank of a step: {worst:.2f} × mean", "bottom"),
    ):
        axes.annotate(
            text,
            (1, y),
            (-4, 3 if side == "bottom" else -3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            va=side,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        )
    axes.set(ylim=(0, top), ylabel="load × mean")


def _columns(
    load: Float[np.ndarray, "heads ranks"],
) -> tuple[Float[np.ndarray, " edges"], Float[np.ndarray, "heads columns"]]:
    """Bounds of the columns to draw, and the mean load of their ranks."""
    n_ranks = load.shape[1]
    edges = np.unique(np.linspace(0, n_ranks, min(n_ranks, MOST_COLUMNS) + 1).astype(int))
    sums = np.add.reduceat(load, edges[:-1], axis=1)
    return edges.astype(float), sums / np.diff(edges)


def _draw_bars(axes: Axes, owners: Owners, n_ranks: int, colours: dict[str, Any]) -> None:
    """A bar for each head from its first rank to its last."""
    axes.set_xlim(0, n_ranks)
    for row, (name, ranks) in enumerate(owners.items()):
        start, width = _seen(ranks[0], len(ranks), n_ranks)
        axes.barh(row, width, height=0.76, left=start, color=colours[name])
        text = f"{len(ranks)} rank{'s' if len(ranks) > 1 else ''}"
        _label(axes, row, text, start=start, end=start + width)
    axes.set(xlabel="rank", ylim=(len(owners) - 0.4, -0.6))
    axes.set_yticks(range(len(owners)), list(owners))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.25, lw=0.6)
    axes.set_axisbelow(True)
    if n_ranks <= 32:
        axes.set_xticks(np.arange(n_ranks) + 0.5, [str(rank) for rank in range(n_ranks)])
        axes.tick_params(axis="x", length=0)


def _seen(first: int, number: int, n_ranks: int) -> tuple[float, float]:
    width = max(float(number), THINNEST * n_ranks)
    return min(float(first), n_ranks - width), width


def _label(axes: Axes, row: int, text: str, *, start: float, end: float) -> None:
    """Beside the bar, on the side that has room."""
    right = end < 0.85 * axes.get_xlim()[1]
    axes.annotate(
        text,
        (end if right else start, row),
        (4 if right else -4, 0),
        textcoords="offset points",
        va="center",
        ha="left" if right else "right",
        fontsize=8,
    )
