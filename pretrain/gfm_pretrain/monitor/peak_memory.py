"""The most memory that this process has held so far."""

import re
import resource
import sys
from pathlib import Path

import torch

from gfm_pretrain.device import ACCELERATORS

STATUS = Path("/proc/self/status")


def peak_memory(device: torch.device) -> dict[str, int]:
    """Bytes at the peak: `resident` in main memory, and on an accelerator `device`.

    Resident counts pages of mapped stores as far as they were read. Device counts tensors, not
    what the allocator of torch keeps in reserve.
    """
    found = {"resident": peak_resident()}
    if device.type in ACCELERATORS:
        found["device"] = ACCELERATORS[device.type].max_memory_allocated(device)
    return found


def peak_resident() -> int:
    """Bytes; of this program alone, where the system can tell."""
    # On Linux the peak of getrusage begins with that of the process that started this one.
    if STATUS.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())):
        return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
