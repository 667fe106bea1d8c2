"""What launchers say to a process of its place, in variables of the environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gfm_pretrain.slurm import tasks_on_node

Launcher = Literal["torchrun", "mpi", "srun", "single"]

RENDEZVOUS_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
PLACE_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """What one launcher says to this process."""

    launcher: Launcher
    by: str
    """Its name, for messages."""
    rank: int | None = None
    size: int | None = None
    local_rank: int | None = None
    local_size: int | None = None
    variables: tuple[str, ...] = field(default=(), compare=False)
    """Where it says so: NAME=VALUE."""

    def __str__(self) -> str:
        return ", ".join(self.variables)


ALONE = Announcement(launcher="single", by="nobody", rank=0, size=1, local_rank=0, local_size=1)


def _of_world(mpi: str) -> tuple[str, str, str, str]:
    world = f"{mpi}_COMM_WORLD"
    return f"{world}_RANK", f"{world}_SIZE", f"{world}_LOCAL_RANK", f"{world}_LOCAL_SIZE"


# Rank, size, rank on the node, ranks on the node. PALS has no variable for the size; Cray's PMI
# brings PMI_SIZE. srun --mpi=pmi2 and --mpi=cray_shasta set the variables of PMI as well.
_MPI_LAUNCHERS: dict[str, tuple[str, str, str, str]] = {
    "mpiexec of Open MPI": _of_world("OMPI"),
    "mpiexec of MVAPICH": _of_world("MV2"),
    "mpiexec of PALS": ("PALS_RANKID", "PMI_SIZE", "PALS_LOCAL_RANKID", "PALS_LOCAL_SIZE"),
    "mpiexec of MPICH or Intel MPI": (
        *("PMI_RANK", "PMI_SIZE"),
        *("MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    ),
    "a launcher with PMIx": ("PMIX_RANK", "", "", ""),
}


def announcements(environ: Mapping[str, str]) -> list[Announcement]:
    """What every launcher says that left its variables here, the innermost first.

    torchrun is the innermost: an MPI launcher or srun may start one torchrun on each node. srun is
    the outermost: other launchers start their daemons with it. RANK, WORLD_SIZE, MASTER_ADDR and
    MASTER_PORT that were set by hand, or by a job system, count only where there is no launcher.
    """
    if "TORCHELASTIC_RUN_ID" in environ:
        return [_by_environment(environ, "torchrun"), *_of_mpi_and_srun(environ)]
    found = _of_mpi_and_srun(environ)
    by_hand = _by_environment(environ, "RANK and WORLD_SIZE")
    complete = all(name in environ for name in RENDEZVOUS_VARIABLES)
    several = (by_hand.size or 1) > 1 or (by_hand.rank or 0) > 0
    if any(said.size != 1 for said in found) or not (complete or several):
        return found
    return [by_hand, *found]


def has_pmi(environ: Mapping[str, str]) -> bool:
    """Whether srun lets an MPI library find its peers: srun --mpi=pmix, pmi2 or cray_shasta."""
    return "PMIX_RANK" in environ or "PMI_RANK" in environ


def integer(environ: Mapping[str, str], name: str) -> int | None:
    """Value of a variable, or None if it is not there or is no number."""
    value = environ.get(name, "")
    return int(value) if value.isdigit() else None


def _of_mpi_and_srun(environ: Mapping[str, str]) -> list[Announcement]:
    found = [
        _announcement(environ, "mpi", by, names)
        for by, names in _MPI_LAUNCHERS.items()
        if integer(environ, names[0]) is not None
    ]
    found = found[:1] + [said for said in found[1:] if not _repeats(said, found[0])]
    srun = _by_srun(environ)
    if srun is None:
        return found
    return [said for said in found if not _repeats(said, srun)] + [srun]


def _announcement(
    environ: Mapping[str, str], launcher: Launcher, by: str, names: tuple[str, ...]
) -> Announcement:
    rank, size, local_rank, local_size = (integer(environ, name) for name in names)
    return Announcement(
        launcher=launcher,
        by=by,
        rank=rank,
        size=size,
        local_rank=local_rank,
        local_size=local_size,
        variables=_said(environ, names[:2]),
    )


def _by_environment(environ: Mapping[str, str], by: str) -> Announcement:
    return _announcement(environ, "torchrun", by, PLACE_VARIABLES)


def _by_srun(environ: Mapping[str, str]) -> Announcement | None:
    """SLURM_NTASKS and SLURM_PROCID are also set in a batch script, which srun did not start."""
    size = integer(environ, "SLURM_STEP_NUM_TASKS")
    if size is None:
        return None
    return Announcement(
        launcher="srun",
        by="srun",
        rank=integer(environ, "SLURM_PROCID"),
        size=size,
        local_rank=integer(environ, "SLURM_LOCALID"),
        local_size=tasks_on_node(environ),
        variables=_said(environ, ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")),
    )


def _repeats(said: Announcement, other: Announcement) -> bool:
    """Whether both say the same place: one launcher, with the variables of two."""
    return said.rank in (None, other.rank) and said.size in (None, other.size)


def _said(environ: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}={environ[name]}" for name in names if name in environ)
