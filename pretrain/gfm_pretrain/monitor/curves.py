"""Learning curves of a run: losses and errors of each head over steps."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogFormatter

from gfm_pretrain.monitor.state import LOSS_STEPS
from gfm_pretrain.plan.ownership_picture import head_colours

ERRORS = {
    "energy_mae_per_atom": "energy MAE, meV/atom",
    "forces_mae": "forces MAE, meV/Å",
    "stress_mae": "stress MAE, meV/Å³",
}
MARKERS = {"before": "s", "valid": "o", "test": "*"}
"""Of errors, by the evaluation they are from."""
MARKER_NAMES = ("before training", "validation", "test")
SETTINGS: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "svg.fonttype": "path",
    "svg.hashsalt": "curves",
}

Curve = tuple[Sequence[int], Sequence[float]]
"""Steps, and values at them."""


class Curves:
    """Losses and errors by head, gathered from the records of a run."""

    def __init__(self, records: Iterable[Mapping[str, Any]]) -> None:
        self.heads: list[str] = []
        self.starts: list[int] = []
        self.losses: dict[str, tuple[list[int], list[float]]] = {}
        self.errors: dict[tuple[str, str, str], tuple[list[int], list[float]]] = {}
        """By kind of evaluation, error and head."""
        self._begun: set[str] = set()
        for record in records:
            self._add(record)

    def _add(self, record: Mapping[str, Any]) -> None:
        kind, step = record["kind"], record["step"]
        if kind == "run":
            self.heads = list(record["heads"])
            self.starts.append(step)
        elif kind == "train" and not record.get("skipped"):
            for head, loss in record["losses"].items():
                _append(self.losses, head, step, loss)
        elif kind in MARKERS:
            for head, errors in record["heads"].items():
                if kind == "before" and head in self._begun:
                    continue  # it was there when others joined
                self._begun.add(head)
                for key in ERRORS.keys() & errors.keys():
                    _append(self.errors, (kind, key, head), step, 1e3 * errors[key])


def plot_curves(curves: Curves, path: Path, *, title: str) -> None:
    """Draw losses above and errors below into a file of the kind that its suffix says.

    Raises:
        ValueError: matplotlib does not write this kind of file; the message lists the kinds.
    """
    shown = [key for key in ERRORS if any(found == key for _, found, _ in curves.errors)]
    colours = head_colours(curves.heads)
    with mpl.rc_context(SETTINGS):
        height = 2.6 * (1 + len(shown))
        figure = Figure(figsize=(9, height), layout="constrained", facecolor="white")
        axes = figure.subplots(1 + len(shown), 1, sharex=True, squeeze=False)[:, 0]
        _draw_losses(axes[0], curves, colours)
        axes[0].set_title(title)
        for panel, key in zip(axes[1:], shown, strict=True):
            _draw_errors(panel, curves, key, colours)
        for panel in axes:
            for start in curves.starts[1:]:
                panel.axvline(start, color="black", lw=0.8, ls=":")
        axes[-1].set_xlabel("step")
        figure.legend(handles=_legend(colours), loc="outside right upper", frameon=False)
        figure.savefig(path, dpi=130)


def _legend(colours: Mapping[str, Any]) -> list[Line2D]:
    heads = [Line2D([], [], color=colour, label=head) for head, colour in colours.items()]
    kinds = [
        Line2D([], [], color="grey", marker=marker, ls="-" if kind == "valid" else "", label=name)
        for (kind, marker), name in zip(MARKERS.items(), MARKER_NAMES, strict=True)
    ]
    return [*heads, *kinds]


def running_mean(values: Float[np.ndarray, " steps"], width: int) -> Float[np.ndarray, " steps"]:
    """Mean of each value and those before it, `width` in all; of fewer at the beginning."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - width)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _draw_losses(axes: Axes, curves: Curves, colours: Mapping[str, Any]) -> None:
    for head, (steps, losses) in curves.losses.items():
        axes.plot(steps, losses, color=colours[head], lw=0.5, alpha=0.35)
        smooth = running_mean(np.array(losses), LOSS_STEPS)
        axes.plot(steps, smooth, color=colours[head], lw=1.4)
    _scale(axes, f"loss, and mean of {LOSS_STEPS} steps")


def _draw_errors(axes: Axes, curves: Curves, key: str, colours: Mapping[str, Any]) -> None:
    """A line through the evaluations on the validation set; others are points."""
    for (kind, found, head), (steps, errors) in curves.errors.items():
        if found == key:
            line = "-" if kind == "valid" else ""
            size = 9 if kind == "test" else 4
            axes.plot(
                steps, errors, line, marker=MARKERS[kind], ms=size, color=colours[head], lw=1.2
            )
    _scale(axes, ERRORS[key])


def _scale(axes: Axes, label: str) -> None:
    """Logarithmic, with plain numbers beside it."""
    axes.set(yscale="log", ylabel=label)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))


def _append(
    curves: dict[Any, tuple[list[int], list[float]]], key: Any, step: int, value: float | None
) -> None:
    if value is not None:
        steps, values = curves.setdefault(key, ([], []))
        steps.append(step)
        values.append(value)
