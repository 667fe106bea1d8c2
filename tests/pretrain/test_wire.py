import socket
import sys

import pytest

from benchmarks.wire import bytes_between, bytes_sent_by_socket

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel counts on Linux only")


def test_the_kernel_counts_what_this_process_sent():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as one,
        server.accept()[0] as other,
    ):
        before = bytes_sent_by_socket()
        assert bytes_between(before, bytes_sent_by_socket()) == 0
        one.sendall(bytes(1000))
        other.sendall(bytes(24))
        assert bytes_between(before, bytes_sent_by_socket()) == 1024
