"""Records in Weights & Biases."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from gfm_pretrain.monitor.options import WandbOptions
from gfm_pretrain.monitor.scalars import scalars

LOGIN_SECONDS = 60.0
"""That someone at a terminal has to log in while all ranks wait."""


class WandbSink:
    """One run there for a run here, continued under the same identity when this one is.

    Numbers are drawn over our own steps, because those of wandb cannot go back to a snapshot.

    Args:
        run: Folder of the run.
        options: Which project, and whether there is a network.
        run_id: Identity of the run.
        settings: Configuration of the run.

    Raises:
        ValueError: wandb refuses, as without a login.
    """

    def __init__(
        self, run: Path, options: WandbOptions, *, run_id: str, settings: Mapping[str, Any]
    ) -> None:
        try:
            self._run = wandb.init(
                project=options.project,
                entity=options.entity,
                name=options.name or run.resolve().name,
                id=run_id,
                resume="allow" if options.mode == "online" else None,
                mode=options.mode,
                dir=run,
                config=dict(settings),
                settings=wandb.Settings(silent=True, console="off", login_timeout=LOGIN_SECONDS),
            )
        except wandb.Error as error:
            raise ValueError(
                f"monitor.wandb: {str(error).rstrip('.')}; log in with `wandb login`, or choose "
                "monitor.wandb.mode=offline"
            ) from error
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write(self, record: Mapping[str, Any]) -> None:
        """Add the numbers of a record."""
        numbers = scalars(record)
        if numbers:
            self._run.log({**numbers, "step": record["step"]})

    def close(self, *, failed: bool) -> None:
        """Send what is left."""
        self._run.finish(exit_code=int(failed))
