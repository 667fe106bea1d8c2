"""Records as event files for TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from gfm_pretrain.monitor.scalars import scalars

FOLDER = "tensorboard"


class TensorBoardSink:
    """Writes into `tensorboard/` in the folder of a run; steps done again replace what was there.

    Args:
        run: Folder of the run.
        step: That the run begins or goes on at.
    """

    def __init__(self, run: Path, *, step: int) -> None:
        self._writer = SummaryWriter(str(run / FOLDER), purge_step=step + 1 if step else None)

    def write(self, record: Mapping[str, Any]) -> None:
        """Add the numbers of a record."""
        for name, value in scalars(record).items():
            self._writer.add_scalar(name, value, record["step"])

    def close(self, *, failed: bool) -> None:  # noqa: ARG002 (the file is the same)
        """Write what is left."""
        self._writer.close()
