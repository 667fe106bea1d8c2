"""Every mapped file counts as an open one, and a process may have so many only."""

import os
from pathlib import Path

DESCRIPTORS = Path("/proc/self/fd")
"""Where Linux lists the open files of a process."""
OTHERS = 256
"""For what else a process opens, and where nothing lists what is open."""


def allow_open_files(n_more: int) -> None:
    """Raise the number of files that this process may have open, if it does not suffice.

    Raises:
        OSError: the system does not allow so many.
    """
    if os.name != "posix":
        return
    import resource  # posix only

    n_open = len(list(DESCRIPTORS.iterdir())) if DESCRIPTORS.is_dir() else 0
    needed = n_open + n_more + OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise OSError(
            f"{needed} files would be open, and the system allows {hard}; raise the limit with "
            f"`ulimit -Hn {needed}` or ask the administrator"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
