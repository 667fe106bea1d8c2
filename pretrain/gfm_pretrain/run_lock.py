"""One run at a time in a folder: a lock that ends with its process, however that ends."""

import errno
import json
import os
import socket
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK_FILE = "lock"


class RunLock:
    """The right to write in a run's folder, held by rank 0 as long as its process lives.

    The operating system drops it with the process, so that a file left by a killed run locks
    nothing. Most parallel file systems (Lustre mounted with `flock`, GPFS, NFS 4) know of locks on
    other nodes; where one does not, the run that came first finds at its next snapshot that the
    file does not say its own name any more, and ends.

    Raises:
        ValueError: another run has it.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / LOCK_FILE
        self.works = fcntl is not None
        """Whether the file system knows locks at all."""
        self._token = uuid.uuid4().hex
        self._file = self.path.open("a+", encoding="utf-8")
        try:
            self._acquire()
            self._sign()
        except BaseException:
            self._file.close()
            raise

    def check(self) -> None:
        """Make sure that nobody else has begun to write here.

        Raises:
            OSError: somebody has, from a node whose locks are not seen here.
        """
        signed = _read(self.path)
        if signed.get("token") != self._token:
            raise OSError(f"{self.path.parent} was taken over by {_owner(signed)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()  # which drops the lock

    def _acquire(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{self.path.parent} is in use by {_owner(_read(self.path))}; wait until it has "
                "ended, or choose another folder with run=FOLDER"
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            self.works = False

    def _sign(self) -> None:
        owner = {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            "token": self._token,
        }
        self._file.truncate(0)
        self._file.write(json.dumps(owner) + "\n")
        self._file.flush()


def _read(path: Path) -> dict:
    try:
        signed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return signed if isinstance(signed, dict) else {}


def _owner(signed: dict) -> str:
    if not signed:
        return "another run"
    return "process {process} on {host} since {since}".format_map(
        {key: signed.get(key, "?") for key in ("process", "host", "since")}
    )
