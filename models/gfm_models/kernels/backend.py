"""What computes the edge operation: chosen here, and never changed in silence."""

import functools
import warnings
from collections.abc import Iterable
from typing import Literal, get_args

import torch

from gfm_models.kernels.compiler import BuildError
from gfm_models.kernels.edge_library import edge_library
from gfm_models.kernels.library import order_library
from gfm_models.kernels.paths import Path

Backend = Literal["fused", "reference"]
"""`fused` is compiled C for the CPU, `reference` plain torch for every device."""

BackendChoice = Literal["auto", "fused", "reference"]
"""`auto` is `fused` on a CPU that has, or had once, a C compiler at hand."""


def choose_backend(
    choice: str,
    *,
    path_lists: Iterable[tuple[Path, ...]],
    dtype: torch.dtype,
    device: torch.device,
) -> Backend:
    """The back end to compute with; builds what `fused` needs.

    With "auto" and no compiler it is the reference, and a warning says so once in a process.

    Raises:
        ValueError: no such choice, or "fused" for another device than the CPU.
        BuildError: "fused" cannot be built here; says how it can.
    """
    check_choice(choice)
    if choice == "reference" or (choice == "auto" and device.type != "cpu"):
        return "reference"
    if device.type != "cpu":
        raise ValueError(
            f"backend='fused' is for the CPU, the model is on '{device}'; take backend='reference'"
        )
    try:
        order_library()
        for paths in path_lists:
            edge_library(paths, dtype)
    except BuildError as error:
        if choice == "fused":
            raise
        _warn_once(str(error))
        return "reference"
    return "fused"


def check_choice(choice: str) -> None:
    """Refuse what is not a back end.

    Raises:
        ValueError: lists those there are.
    """
    if choice not in get_args(BackendChoice):
        names = ", ".join(get_args(BackendChoice))
        raise ValueError(f"no back end '{choice}'; they are: {names}")


@functools.cache
def _warn_once(reason: str) -> None:
    warnings.warn(
        f"computing several times slower than possible: {reason}. backend='reference' says that "
        "this is meant",
        RuntimeWarning,
        stacklevel=4,
    )
