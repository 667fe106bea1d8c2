"""What started this process, as far as its environment tells; nobody is met yet.

One launcher may start another (mpiexec one torchrun on each node), and variables outlive what they
were meant for (a shell inside srun): what launchers say is compared before it is believed.
"""

import itertools
from collections.abc import Mapping

from gfm_pretrain.announcement import (
    ALONE,
    PLACE_VARIABLES,
    RENDEZVOUS_VARIABLES,
    Announcement,
    Launcher,
    announcements,
    integer,
)


class LaunchError(ValueError):
    """The launcher and the installed libraries do not fit; the same on every rank."""


def announced_place(environ: Mapping[str, str]) -> Announcement:
    """What the launcher that started this process says; nobody's word is one rank of one.

    Raises:
        LaunchError: several launchers contradict each other.
        ValueError: what was set by hand is incomplete, or wrong.
    """
    found = announcements(environ)
    _check_chain(environ, found)
    own = found[0] if found else ALONE
    _check_by_hand(environ, own)
    return own


def detect_launcher(environ: Mapping[str, str]) -> Launcher:
    """What started this process; a launcher that announces one rank counts as none.

    Where launchers contradict each other, it is the innermost: see `announced_place`.
    """
    found = announcements(environ)
    several = [said for said in found if said.size != 1 or said.launcher == "torchrun"]
    return several[0].launcher if several else "single"


def announced_rank(environ: Mapping[str, str]) -> int:
    """Rank that the launcher announces, before any rank has met another.

    It is 0 on one process only, also where launchers contradict each other.
    """
    try:
        return announced_place(environ).rank or 0
    except ValueError:
        return max(said.rank or 0 for said in [*announcements(environ), ALONE])


def idle_allocation(environ: Mapping[str, str]) -> str | None:
    """What to say to a process that runs alone in a Slurm job with room for more."""
    n_tasks = integer(environ, "SLURM_NTASKS") or 1
    if n_tasks == 1 or "SLURM_STEP_NUM_TASKS" in environ or "SLURM_JOB_ID" not in environ:
        return None
    return (
        f"alone in a Slurm job of {n_tasks} tasks (SLURM_NTASKS={n_tasks}); "
        "start with srun to use all of them"
    )


def _check_chain(environ: Mapping[str, str], found: list[Announcement]) -> None:
    for inner, outer in itertools.pairwise(found):
        if outer.size == 1:
            continue
        if inner.by == "torchrun":
            _check_torchruns(environ, inner, outer)
        elif outer.launcher == "srun":
            _check_inside_srun(inner, outer)
        else:
            raise LaunchError(
                f"the variables of two launchers contradict each other: {inner.by} says {inner}, "
                f"{outer.by} says {outer}; unset those of the one that did not start this process"
            )


def _check_torchruns(environ: Mapping[str, str], inner: Announcement, outer: Announcement) -> None:
    """GROUP_WORLD_SIZE is how many torchruns have met."""
    n_torchruns = integer(environ, "GROUP_WORLD_SIZE")
    if (outer.local_size or 1) > 1:
        raise LaunchError(
            f"{outer.by} started {outer.local_size} torchruns on one node, whose ranks would share "
            f"devices; start one torchrun on each node, or leave torchrun out"
        )
    if n_torchruns is not None and outer.size not in (None, n_torchruns):
        raise LaunchError(
            f"{outer.by} started {outer.size} torchruns ({outer}) but {n_torchruns} of them met "
            f"({inner}); give torchrun --nnodes={outer.size} --rdzv-backend=c10d "
            "--rdzv-endpoint=HOST:PORT, or leave torchrun out"
        )


def _check_inside_srun(inner: Announcement, outer: Announcement) -> None:
    """An mpiexec that starts its daemons with srun has ranks on several nodes."""
    on_one_node = inner.size is not None and inner.local_size == inner.size
    if on_one_node or inner.size == 1:
        raise LaunchError(
            f"srun started {outer.size} tasks ({outer}) and each of them ran {inner.by} ({inner}): "
            "these are separate runs; start with one of the two, or unset SLURM_STEP_NUM_TASKS"
        )


def _check_by_hand(environ: Mapping[str, str], own: Announcement) -> None:
    if own.launcher == "torchrun":
        _check_complete(environ, own)
    by_hand = integer(environ, "WORLD_SIZE") or 1
    if by_hand > 1 and own.size not in (None, by_hand):
        raise LaunchError(
            f"{own.by} says {own}, but WORLD_SIZE={by_hand}; unset RANK and WORLD_SIZE, "
            "the launcher sets what is needed"
        )


def _check_complete(environ: Mapping[str, str], own: Announcement) -> None:
    needed = dict.fromkeys((*RENDEZVOUS_VARIABLES, *_needed_places(own)))
    missing = [name for name in needed if name not in environ]
    if missing:
        # Not a LaunchError, for which rank 0 speaks: there may be none.
        raise ValueError(
            f"the environment has {', '.join(_names(environ))} but not {', '.join(missing)}; "
            "start with torchrun, mpiexec or srun, or unset them all to run in one process"
        )
    for name in needed:
        if name != "MASTER_ADDR" and integer(environ, name) is None:
            raise ValueError(f"{name}={environ[name]} is no number; unset it, or set it right")
    if (own.rank or 0) >= (own.size or 1):
        last = (own.size or 1) - 1
        raise ValueError(f"RANK={own.rank} but WORLD_SIZE={own.size}: ranks are 0 … {last}")


def _needed_places(own: Announcement) -> tuple[str, ...]:
    return PLACE_VARIABLES if own.by == "torchrun" else ()


def _names(environ: Mapping[str, str]) -> list[str]:
    names = dict.fromkeys((*PLACE_VARIABLES, *RENDEZVOUS_VARIABLES, "TORCHELASTIC_RUN_ID"))
    return [name for name in names if name in environ]
