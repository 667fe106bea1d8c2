"""Devices: which one a rank computes on, how its ranks talk, and how exact its products are."""

import resource
import socket
from collections.abc import Mapping
from types import ModuleType
from typing import Literal

import torch

Precision = Literal["full", "tf32"]

BACKENDS = {"cpu": "gloo", "cuda": "nccl", "xpu": "xccl"}
"""The torch.distributed backend of each kind of device. ROCm calls itself cuda, RCCL nccl."""
ACCELERATORS: Mapping[str, ModuleType] = {"cuda": torch.cuda, "xpu": torch.xpu}
"""What torch offers for each kind besides the CPU, the preferred one first."""
KIBIBYTE = 1024
"""`ru_maxrss` of Linux counts in these."""


def local_device(name: str, local_rank: int) -> torch.device:
    """The device of a rank, made the current one.

    Args:
        name: "auto" (the accelerator torch sees, or else the CPU), "cpu", "cuda" or "xpu".
        local_rank: Number of the rank on its node. Ranks take devices in turn; where the launcher
            shows each rank only its own, that is number 0 for all.

    Raises:
        ValueError: no such kind, or torch sees none of it here.
    """
    if name not in ("auto", *BACKENDS):
        raise ValueError(f"device must be one of auto, {', '.join(BACKENDS)}, got {name!r}")
    available = [kind for kind, module in ACCELERATORS.items() if module.is_available()]
    if name == "auto":
        name = next(iter(available), "cpu")
    if name == "cpu":
        return torch.device("cpu")
    if name not in available:
        raise ValueError(
            f"device={name} but torch {torch.__version__} sees none on {socket.gethostname()}; "
            f"available: {', '.join(['cpu', *available])}"
        )
    module = ACCELERATORS[name]
    device = torch.device(name, local_rank % module.device_count())
    module.set_device(device)
    return device


def set_precision(precision: Precision, device: torch.device) -> None:
    """Choose how float32 matrices are multiplied, for the whole process.

    "full" multiplies float32 as float32 whatever was set before: TF32 keeps 11 of 24 bits and is
    for those who ask for it.

    Raises:
        ValueError: TF32 was asked for on a device that has none.
    """
    if precision == "tf32" and device.type not in ACCELERATORS:
        raise ValueError(
            f"precision: tf32 is for {', '.join(ACCELERATORS)}, this run uses {device.type}; use "
            "precision: full"
        )
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")


def peak_memory(device: torch.device) -> int:
    """Most bytes that this process has held so far: on the accelerator, or else in all."""
    if device.type in ACCELERATORS:
        return ACCELERATORS[device.type].max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIBIBYTE
