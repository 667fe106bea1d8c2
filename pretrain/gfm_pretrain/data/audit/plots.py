"""Pictures of an audit: energies, forces, elements, sizes and distances."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gfm_pretrain.data.audit.report import Audit
from gfm_pretrain.data.audit.statistics import (
    DISTANCE_BINS,
    ENERGY_BINS,
    FORCE_BINS,
    Statistics,
)

INK = "#1f2328"
"""Of text and axes."""
FILL = "#4c78a8"
"""Of histograms; seen well on white and on black."""
NOBLE_GASES = (0, 2, 10, 18, 36, 54, 86, 118)
"""Where the periods end."""
MOST_BARS = 80
"""Of a histogram; further bins are drawn several in one."""


def styled(ink: str) -> AbstractContextManager[None]:
    """Settings of matplotlib that all pictures share, in a colour of text and axes."""
    inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    settings: dict[Any, Any] = {
        **dict.fromkeys(inked, ink),
        "font.size": 9.0,
        "axes.titlesize": 10.0,
        "axes.labelsize": 9.0,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.color": ink,
        "grid.alpha": 0.12,
        "grid.linewidth": 0.6,
        "svg.fonttype": "path",
        "svg.hashsalt": "audit",
    }
    return mpl.rc_context(settings)


def plot_audit(audit: Audit, path: Path) -> None:
    """Draw an overview into one file, of the kind that its suffix says: PNG, SVG, PDF.

    Raises:
        ValueError: matplotlib does not write this kind of file; the message lists the kinds.
    """
    with styled(INK):
        figure = Figure(figsize=(11, 9), layout="constrained", facecolor="white")
        axes = figure.subplot_mosaic(
            [["elements", "elements"], ["energies", "forces"], ["sizes", "distances"]],
            height_ratios=[1.5, 1, 1],
        )
        for name, draw in PLOTS.items():
            draw(axes[name], audit.statistics)
        figure.savefig(path, dpi=150)


def draw_energies(axes: Axes, statistics: Statistics) -> None:
    """Structures by energy per atom without E0."""
    axes.set_title("Energy without reference energies")
    axes.set_xlabel("energy per atom − E0 (eV)")
    _draw_histogram(axes, statistics.interactions, ENERGY_BINS.edges, "structures")


def draw_forces(axes: Axes, statistics: Statistics) -> None:
    """Atoms by length of the force, both axes logarithmic."""
    axes.set_title("Forces")
    axes.set_xlabel("force on an atom (eV/Å), zeros counted at 10⁻⁵")
    _draw_histogram(axes, statistics.force_sizes, FORCE_BINS.edges, "atoms")
    axes.set_xscale("log")


def draw_distances(axes: Axes, statistics: Statistics) -> None:
    """Pairs of atoms by distance."""
    axes.set_title("Distances")
    axes.set_xlabel("distance of two atoms (Å)")
    _draw_histogram(axes, statistics.distances // 2, DISTANCE_BINS.edges, "pairs")
    axes.set_xlim(0, DISTANCE_BINS.stop)


def draw_sizes(axes: Axes, statistics: Statistics) -> None:
    """Structures by number of atoms."""
    axes.set_title("Sizes")
    axes.set_xlabel("atoms in a structure")
    sizes = np.fromiter(statistics.sizes.keys(), dtype=np.int64)
    counts = np.zeros(sizes.max(initial=0) + 1, dtype=np.int64)
    counts[sizes] = np.fromiter(statistics.sizes.values(), dtype=np.int64)
    _draw_histogram(axes, counts, np.arange(len(counts) + 1) - 0.5, "structures")


def draw_elements(axes: Axes, statistics: Statistics) -> None:
    """The periodic table, coloured by the number of structures that have an element."""
    axes.set_title("Structures with each element")
    counts = statistics.structures_with
    norm = LogNorm(1, max(10, int(counts.max())))
    colours = mpl.colormaps["viridis"]
    for number in range(1, len(counts)):
        n_structures = int(counts[number])
        colour = colours(norm(n_structures)) if n_structures else None
        _draw_element(axes, number, colour)
    axes.set(xlim=(0.4, 18.6), ylim=(9.7, 0.4), aspect="equal")
    axes.set_axis_off()
    _draw_scale(axes, norm)


def place_in_table(number: int) -> tuple[float, float]:
    """Group and period of an element; the f elements stand below, in the columns they belong to."""
    period = int(np.searchsorted(NOBLE_GASES, number))
    from_left = number - NOBLE_GASES[period - 1]
    group = 18 - (NOBLE_GASES[period] - number)
    if from_left <= 2 and number != 2:
        return from_left, period
    return (group, period) if group > 2 else (from_left, period + 2.2)


PLOTS: Mapping[str, Callable[[Axes, Statistics], None]] = {
    "elements": draw_elements,
    "energies": draw_energies,
    "forces": draw_forces,
    "sizes": draw_sizes,
    "distances": draw_distances,
}
"""All pictures, in the order in which they are shown."""


def _draw_histogram(
    axes: Axes,
    counts: Int[np.ndarray, " bins"],
    edges: Float[np.ndarray, " bins_and_1"],
    what: str,
) -> None:
    """Counts on a logarithmic axis, from the first bin that is not empty to the last."""
    axes.set_ylabel(what)
    filled = np.flatnonzero(counts)
    if not len(filled):
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", alpha=0.6)
        return
    first, last = filled[0], filled[-1] + 1
    width = -(-(last - first) // MOST_BARS)
    bars = np.add.reduceat(counts[first:last], np.arange(0, last - first, width))
    ends = edges[np.minimum(first + width * np.arange(len(bars) + 1), len(counts))]
    axes.stairs(bars, ends, fill=True, baseline=0.5, color=FILL)
    axes.set_yscale("log")
    axes.set_ylim(0.5, 2 * bars.max())
    axes.grid(True)


def _draw_element(axes: Axes, number: int, colour: tuple[float, ...] | None) -> None:
    """One cell of the periodic table; without colour for an element that is not in the data."""
    group, period = place_in_table(number)
    corner = (group - 0.46, period - 0.46)
    ink = mpl.rcParams["text.color"]
    if colour is None:
        cell = Rectangle(corner, 0.92, 0.92, fill=False, edgecolor=ink, alpha=0.18, linewidth=0.6)
    else:
        cell = Rectangle(corner, 0.92, 0.92, facecolor=colour, edgecolor="none")
        ink = "black" if np.dot(colour[:3], (0.299, 0.587, 0.114)) > 0.5 else "white"
    axes.add_patch(cell)
    text = axes.text(group, period, chemical_symbols[number], color=ink, fontsize=8)
    text.set(ha="center", va="center", alpha=0.35 if colour is None else None)


def _draw_scale(axes: Axes, norm: LogNorm) -> None:
    """The colours and what they mean, in the gap above the transition metals."""
    scale = axes.inset_axes((3.2, 1.4, 8.6, 0.45), transform=axes.transData)
    mappable = ScalarMappable(norm=norm, cmap="viridis")
    bar = axes.figure.colorbar(mappable, cax=scale, orientation="horizontal")
    bar.outline.set_visible(False)
    bar.minorticks_off()
    bar.set_label("structures")
