"""The command `gfm watch`: where a run stands, by what it has written into its folder."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from gfm_pretrain.extras import packages_for

WATCH = """\
Show how far a run is, how fast it is, its losses and its last errors, from the metrics in its
folder. The run itself is not touched; it may be running, elsewhere too, or be over."""
SECONDS_BETWEEN_LOOKS = 2.0


# argparse has no public name for the type of what `add_subparsers` returns.
def add_watch(commands) -> None:
    """Add `watch` to the parser of `gfm`."""
    text = "show where a run stands: rates, losses, errors, time left, learning curves"
    parser: argparse.ArgumentParser = commands.add_parser("watch", help=text, description=WATCH)
    parser.set_defaults(command=_watch)
    add = parser.add_argument
    add("run", metavar="RUN", type=Path, help="folder of the run")
    add("--follow", action="store_true", help="go on until the run ends, or Ctrl-C")
    add("--plot", type=Path, metavar="FILE", help="draw learning curves: .png, .svg or .pdf")


def _watch(arguments: argparse.Namespace) -> int:
    with packages_for("gfm watch", extra="train"):
        from gfm_pretrain.monitor.growing import GrowingMetrics

    metrics = GrowingMetrics(arguments.run)
    if arguments.follow:
        _follow(metrics, arguments.run)
    else:
        _show(metrics, arguments.run)
    if arguments.plot is not None:
        _plot(arguments.run, metrics.path, arguments.plot)
    return 0


def _show(metrics, run: Path) -> None:
    from rich.console import Console

    Console(file=sys.stdout).print(_View(metrics, run, fit_height=False))


def _follow(metrics, run: Path) -> None:
    from rich.live import Live

    view = _View(metrics, run, fit_height=True)
    try:
        with Live(view, auto_refresh=False) as live:
            while metrics.read().ended is None:
                live.refresh()
                time.sleep(SECONDS_BETWEEN_LOOKS)
            live.refresh()
    except KeyboardInterrupt:
        return


def _plot(run: Path, path: Path, target: Path) -> None:
    with packages_for("gfm watch --plot", extra="plots"):
        from gfm_pretrain.monitor.curves import Curves, plot_curves
    from gfm_pretrain.monitor.metrics_file import read_metrics

    plot_curves(Curves(read_metrics(path)), target, title=str(run))
    sys.stdout.write(f"picture: {target}\n")


class _View:
    """The run at a glance over its dashboard, as it is when it is drawn."""

    def __init__(self, metrics, run: Path, *, fit_height: bool) -> None:
        self.metrics = metrics
        self.run = run
        self.fit_height = fit_height

    def __rich_console__(self, console, options):
        from gfm_pretrain.monitor.dashboard import Dashboard
        from gfm_pretrain.monitor.overview import overview
        from gfm_pretrain.snapshots.layout import snapshot_steps
        from rich.text import Text

        state = self.metrics.read()
        written = self.metrics.path.stat().st_mtime
        snapshot = max(snapshot_steps(self.run), default=None)
        text = Text(
            overview(state, self.run, snapshot=snapshot, last_written=written, now=time.time())
        )
        yield text
        if state.run:
            used = len(console.render_lines(text, options, pad=False))
            yield Dashboard(state, fit_height=self.fit_height, used=used)
