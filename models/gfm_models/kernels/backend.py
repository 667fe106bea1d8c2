"""What computes edge operation and node products: chosen here, and never changed in silence."""

import functools
import warnings
from collections.abc import Iterable
from typing import Literal, get_args

import torch

from gfm_models.kernels.compiler import BuildError
from gfm_models.kernels.edge_library import edge_library
from gfm_models.kernels.from_vectors import from_vectors_library
from gfm_models.kernels.library import order_library
from gfm_models.kernels.node_product import NodeProduct
from gfm_models.kernels.paths import Path
from gfm_models.kernels.product_library import product_library
from gfm_models.kernels.spline_library import basis_library, spline_library
from gfm_models.kernels.structure import structure_library
from gfm_models.kernels.triton_probe import check_triton

Backend = Literal["fused", "triton", "reference"]
"""`fused` is compiled C for the CPU, `triton` for GPUs, `reference` plain torch for any device."""

BackendChoice = Literal["auto", "fused", "triton", "reference"]
"""`auto` is `fused` on a CPU that has, or had once, a C compiler at hand, `triton` on a GPU for
which Triton is installed."""

TRITON_DEVICES = ("cuda", "xpu")
"""ROCm calls itself cuda."""


def choose_backend(
    choice: str,
    *,
    path_lists: Iterable[tuple[Path, ...]],
    products: Iterable[NodeProduct],
    dtype: torch.dtype,
    device: torch.device,
) -> Backend:
    """The back end to compute with; builds what `fused` needs.

    With "auto", where neither `fused` nor `triton` can be had, it is the reference, and a warning
    says so once in a process.

    Raises:
        ValueError: no such choice, or "fused" or "triton" for a device that it is not for.
        BuildError: "fused" or "triton" was chosen and cannot work here; says how it can.
    """
    check_choice(choice)
    fast = _fast_backend(device)
    if choice == "reference" or (choice == "auto" and fast is None):
        return "reference"
    if fast is None or choice not in ("auto", fast):
        raise ValueError(
            f"backend='{choice}' is for {_DEVICES[choice]}, the model is on '{device}'; take "
            f"backend='{fast or 'reference'}'"
        )
    try:
        _prepare(fast, path_lists, products, dtype=dtype, device=device)
    except BuildError as error:
        if choice != "auto":
            raise
        _warn_once(str(error))
        return "reference"
    return fast


def _prepare(
    backend: Backend,
    path_lists: Iterable[tuple[Path, ...]],
    products: Iterable[NodeProduct],
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    """Build what it needs; functions for a GPU are compiled later, when they are called."""
    if backend == "triton":
        check_triton(device)
        return
    order_library()
    structure_library()
    for paths in path_lists:
        edge_library(paths, dtype)
        from_vectors_library(paths, dtype)
    basis_library()
    spline_library(dtype)
    for product in products:
        product_library(product, dtype)


_DEVICES = {"fused": "the CPU", "triton": f"GPUs ({', '.join(TRITON_DEVICES)})"}


def _fast_backend(device: torch.device) -> Backend | None:
    """What a device is made full use of with, if there is such a thing."""
    if device.type == "cpu":
        return "fused"
    return "triton" if device.type in TRITON_DEVICES else None


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
