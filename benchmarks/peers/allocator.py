"""The setting of glibc's allocator that keeps pages; peers get it as well as this project."""

import ctypes
import sys
from typing import Literal

Allocator = Literal["kept", "stock"]

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""From malloc.h."""


def set_allocator(allocator: Allocator) -> None:
    """Keep pages that are freed, or leave the allocator as it is.

    By default large tensors get fresh pages from the system at every call, zeroed one by one, and
    give them back. Kept pages are used again.

    Raises:
        RuntimeError: pages are to be kept, and the C library is not glibc.
    """
    if allocator == "stock":
        return
    if sys.platform != "linux":
        raise RuntimeError(f"pages are kept on Linux only, this is {sys.platform}")
    mallopt = ctypes.CDLL(None).mallopt
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 2**26}
    if not all(mallopt(option, value) == 1 for option, value in settings.items()):
        raise RuntimeError("glibc refused to keep pages")
