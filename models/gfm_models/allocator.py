"""The memory allocator of the C library, told to keep what tensors of every call need again."""

import ctypes
import functools
import os
import platform

OPT_OUT = "GFM_ALLOCATOR"
"""Environment variable; `system` leaves the allocator as it is."""

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""From malloc.h of the GNU C library."""

SETTINGS = {M_MMAP_THRESHOLD: 2**25, M_TRIM_THRESHOLD: 2**30, M_TOP_PAD: 2**26}
"""Bytes. Larger tensors than the first, the most that is allowed, come from the system and go back
to it; of smaller ones up to the second is kept."""


@functools.cache
def keep_freed_memory() -> bool:
    """Keep up to 1 GiB of freed memory in this process instead of giving it back to the system.

    Otherwise each call may get its memory as fresh pages, which the system clears one by one. It is
    asked for once in a process; see `OPT_OUT`.

    Returns:
        Whether it is done: on Linux with the GNU C library, unless the environment forbids it.

    Raises:
        ValueError: the environment variable is something else than `system` or `keep`.
    """
    choice = os.environ.get(OPT_OUT, "keep")
    if choice not in ("keep", "system"):
        raise ValueError(f"{OPT_OUT} must be keep or system, got '{choice}'")
    if choice == "system" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(option, value) == 1 for option, value in SETTINGS.items())
