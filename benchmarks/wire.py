"""Bytes that really left this process over TCP, as the kernel counts them.

gloo sends over TCP, also between ranks of one machine. What the program believes it has sent is
one thing, what the kernel counted on its sockets another: this module asks the kernel.
"""

import os
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path

DESCRIPTORS = Path("/proc/self/fd")

BYTES_SENT = 200
"""Where `tcpi_bytes_sent`, a 64-bit number, stands in `struct tcp_info` (linux/tcp.h, since 4.19).
It counts what was sent again, too, which does not happen on the loopback interface."""


def bytes_sent_by_socket() -> dict[int, int]:
    """Bytes sent over each open TCP connection of this process, by the socket's inode."""
    sent = {}
    for entry in DESCRIPTORS.iterdir():
        with suppress(OSError):  # closed meanwhile, or no TCP socket
            descriptor = int(entry.name)
            status = os.fstat(descriptor)
            if stat.S_ISSOCK(status.st_mode):
                sent[status.st_ino] = _bytes_sent(descriptor)
    return sent


def bytes_between(before: dict[int, int], after: dict[int, int]) -> int:
    """Bytes that were sent between two calls of `bytes_sent_by_socket`.

    Connections that were opened meanwhile count in full; those that were closed do not count.
    """
    return sum(sent - before.get(inode, 0) for inode, sent in after.items())


def _bytes_sent(descriptor: int) -> int:
    with socket.socket(fileno=os.dup(descriptor)) as duplicate:
        info = duplicate.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_SENT + 8)
    if len(info) < BYTES_SENT + 8:
        raise OSError("this kernel does not count the bytes of a connection")
    return struct.unpack_from("=Q", info, BYTES_SENT)[0]
