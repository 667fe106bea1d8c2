"""Where else records go, if that was asked for and its package is installed."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gfm_pretrain.monitor.options import MonitorOptions
from gfm_pretrain.monitor.sink import Guarded


def check_installed(options: MonitorOptions) -> None:
    """Say in one line which optional package is missing. Call on every rank, before anything else.

    Raises:
        ValueError: naming the option, the package, and two ways out.
    """
    asked = {"tensorboard": options.tensorboard, "wandb": options.wandb is not None}
    for package, is_asked in asked.items():
        if is_asked and find_spec(package) is None:
            raise ValueError(
                f"monitor.{package} needs the package {package}: pip install "
                f"'gfmcalc[{package}]', or leave monitor.{package} out"
            )


def open_sinks(
    run: Path,
    options: MonitorOptions,
    *,
    step: int,
    run_id: str,
    settings: Mapping[str, Any],
    complain: Callable[[str], None],
) -> list[Guarded]:
    """Those that were asked for; their packages are loaded for nobody else. On rank 0.

    Args:
        run: Folder of the run.
        options: What was asked for.
        step: That the run begins or goes on at.
        run_id: Identity of the run.
        settings: Its configuration.
        complain: Is told when one of them fails later.

    Raises:
        ValueError: Weights & Biases refuses.
    """
    sinks: list[Guarded] = []
    if options.tensorboard:
        from gfm_pretrain.monitor.tensorboard import TensorBoardSink

        sinks.append(Guarded(TensorBoardSink(run, step=step), "TensorBoard", complain=complain))
    if options.wandb is not None:
        from gfm_pretrain.monitor.weights_and_biases import WandbSink

        wandb = WandbSink(run, options.wandb, run_id=run_id, settings=settings)
        sinks.append(Guarded(wandb, "Weights & Biases", complain=complain))
    return sinks
