"""Whether Triton works on a device: learnt by trying."""

import functools
from typing import Any

import torch

from gfm_models.kernels.compiler import BuildError
from gfm_models.kernels.triton_module import import_source, on_device

_PROBE = '''"""The smallest function there is, written by gfm_models."""

import triton
import triton.language as tl


@triton.jit
def store_one(place):
    tl.store(place, 1.0)
'''


@functools.cache
def check_triton(device: torch.device) -> None:
    """Compile a function and run it on the device.

    Raises:
        BuildError: it cannot be done; says why, and the way out.
    """
    try:
        place = torch.zeros(1, device=device)
        with on_device(device):
            function: Any = import_source("probe", _PROBE).store_one
            function[(1,)](place)
        worked = place.item() == 1.0
    except ImportError as error:
        raise BuildError(
            f"Triton cannot be imported ({error}); it comes with torch for GPUs, or "
            "`pip install triton` (Linux)"
        ) from error
    except Exception as error:  # the compiler, the driver and a C compiler raise what they like
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise BuildError(f"Triton fails on '{device}': {reason[0]}") from error
    if not worked:
        raise BuildError(f"Triton fails on '{device}': a function had no effect")
