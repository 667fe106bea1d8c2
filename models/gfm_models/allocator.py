"""The memory allocator of the C library, told to keep what tensors of every call need again."""

import ctypes
import functools
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

OPT_OUT = "GFM_ALLOCATOR"
"""Environment variable; `system` leaves the allocator as it is."""

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4
"""From malloc.h of the GNU C library."""

SETTINGS = {M_MMAP_THRESHOLD: 2**25, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 2**26}
"""Bytes. Larger tensors than the first, the most that is allowed, come from the system and go back
to it, except in `reusing_memory`; of others up to the second, the most that is allowed, is kept."""
DEFAULT_MMAP_MAX = 65536
"""Tensors at a time that may come from the system by themselves."""


@functools.cache
def keep_freed_memory() -> bool:
    """Keep up to 2 GiB of freed memory in this process instead of giving it back to the system.

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
    return all(_set(option, value) for option, value in SETTINGS.items())


@contextmanager
def reusing_memory() -> Iterator[None]:
    """Let large tensors, too, take what was kept, where `keep_freed_memory` keeps it.

    A structure of 100 000 atoms has tensors of 100 MB; as fresh pages they cost a quarter of the
    time of a call. It holds for all threads meanwhile.
    """
    kept = keep_freed_memory() and _set(M_MMAP_MAX, 0)
    try:
        yield
    finally:
        if kept:
            _set(M_MMAP_MAX, DEFAULT_MMAP_MAX)


def _set(option: int, value: int) -> bool:
    return _c_library().mallopt(option, value) == 1


@functools.cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)
