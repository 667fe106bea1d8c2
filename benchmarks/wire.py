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
"""Where `tcpi_bytes_sent` stands in `struct tcp_info`, and behind it `tcpi_bytes_retrans`: numbers
of 64 bits (linux/tcp.h, since 4.19). The first counts what was sent again, too. On a busy machine
that happens on the loopback interface as well, when the receiver does not get its turn: single
messages among five ranks on two cores counted up to 1.37 times, and 1.002 times without it."""
END = BYTES_SENT + 16


def bytes_sent_by_socket() -> dict[int, int]:
    """Bytes sent over each open TCP connection of this process, once, by the socket's inode."""
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
        info = duplicate.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, END)
    if len(info) < END:
        raise OSError("this kernel does not count the bytes of a connection")
    sent, again = struct.unpack_from("=QQ", info, BYTES_SENT)
    return sent - again
