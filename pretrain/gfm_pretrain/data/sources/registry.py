"""The table of all sources.

To add one, write a file beside this one with

- a function that goes through a published file and yields a `Block` for some hundred to some
  thousand neighbouring records: how far into the file it ends, and a function that reads it and
  yields a `Record` in eV and Å, or a `Refused`, for each;
- a `Source` that names it, its layout, keys, options and what is known of the data;

and enter it below, with its package in the extra `data` of pyproject.toml if it needs one.
"""

import difflib
from collections.abc import Callable

from gfm_pretrain.data.sources.source import Source

# Each is imported when it is asked for: h5py, ijson and lmdb are wanted by some sources only.


def _alexandria() -> Source:
    from gfm_pretrain.data.sources.alexandria import SOURCE

    return SOURCE


def _ani1x() -> Source:
    from gfm_pretrain.data.sources.ani1x import SOURCE

    return SOURCE


def _ase_db() -> Source:
    from gfm_pretrain.data.sources.ase_files import DATABASES

    return DATABASES


def _ase_traj() -> Source:
    from gfm_pretrain.data.sources.ase_files import TRAJECTORIES

    return TRAJECTORIES


def _aselmdb() -> Source:
    from gfm_pretrain.data.sources.aselmdb import SOURCE

    return SOURCE


def _extxyz() -> Source:
    from gfm_pretrain.data.sources.extxyz import SOURCE

    return SOURCE


def _mptrj() -> Source:
    from gfm_pretrain.data.sources.mptrj import SOURCE

    return SOURCE


def _qm7x() -> Source:
    from gfm_pretrain.data.sources.qm7x import SOURCE

    return SOURCE


def _transition1x() -> Source:
    from gfm_pretrain.data.sources.transition1x import SOURCE

    return SOURCE


SOURCES: dict[str, Callable[[], Source]] = {
    "ani1x": _ani1x,
    "qm7x": _qm7x,
    "transition1x": _transition1x,
    "mptrj": _mptrj,
    "alexandria": _alexandria,
    "aselmdb": _aselmdb,
    "ase-db": _ase_db,
    "ase-traj": _ase_traj,
    "extxyz": _extxyz,
}
"""Every source by its name, and how to import it."""


def source_names() -> tuple[str, ...]:
    """The names of all sources."""
    return tuple(SOURCES)


def source_named(name: str) -> Source:
    """The source of a name.

    Raises:
        ValueError: there is none of that name.
        ModuleNotFoundError: it needs a package that is not installed.
    """
    if name not in SOURCES:
        nearest = difflib.get_close_matches(name, SOURCES, n=1)
        hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
        raise ValueError(f"no source is named '{name}'; there are {', '.join(SOURCES)}{hint}")
    try:
        return SOURCES[name]()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("gfm_"):
            raise
        raise ModuleNotFoundError(
            f"source {name} needs {error.name}; pip install 'gfmcalc[data]'", name=error.name
        ) from error
