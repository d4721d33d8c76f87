"""Free ports on loopback for the real servers that tests start.

They lie below those that the system gives to outgoing connections (Linux: ip_local_port_range begins at 32768), so that no client
takes one between our look and the server's bind; and each worker of pytest-xdist has a stretch of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket

FIRST, STRETCH, STRETCHES = 16_384, 2_048, 8
_offset = itertools.count(random.randrange(STRETCH))  # other test runs on this machine begin elsewhere


def free_ports_in_a_row(count: int) -> int:
    """The first of `count` TCP ports in a row that were free on 127.0.0.1 a moment ago."""
    while True:
        first = free_port()
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, OverflowError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first


def free_port() -> int:
    """A TCP port that was free on 127.0.0.1 a moment ago, and that this process has not been given before in a long time."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = FIRST + worker % STRETCHES * STRETCH
    for _ in range(STRETCH):
        port = first + next(_offset) % STRETCH
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no port of {first} to {first + STRETCH - 1} is free on 127.0.0.1")
