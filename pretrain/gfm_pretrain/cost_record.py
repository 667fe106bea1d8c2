"""The measured cost of a step in the run's folder: a run that is continued deals as it did."""

from dataclasses import asdict
from pathlib import Path

from gfm_pretrain.cost import StepCost
from gfm_pretrain.durable import read_sealed, write_sealed
from gfm_pretrain.process import World, broadcast_object

COST_FILE = "cost.json"


def recorded_cost(run: Path, world: World) -> StepCost | None:
    """What an earlier part of the run measured, None where none did. Call on every rank.

    A damaged record is as good as none: what is measured anew changes rounding alone.
    """
    return broadcast_object(world, read_cost(run) if world.rank == 0 else None)


def record_cost(run: Path, measured: StepCost, world: World) -> None:
    """Keep what was measured. Call on every rank."""
    if world.rank == 0:
        write_sealed(run / COST_FILE, asdict(measured))


def read_cost(run: Path) -> StepCost | None:
    """What the run in this folder measured, None where it has not, or the record is damaged."""
    try:
        return StepCost(**read_sealed(run / COST_FILE))
    except (OSError, TypeError, ValueError):
        return None
