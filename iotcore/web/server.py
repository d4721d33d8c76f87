"""Serving the console with uvicorn; run it on uvloop (`process.serve(..., fast_loop=True)`)."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from quart import Quart

from iotcore.errors import StartError

LINGER_S = 1  # open streams get this long to end at a stop
BACKLOG = 512


class _Server(uvicorn.Server):
    """Leaves signals to the process that runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(app: Quart, host: str, port: int) -> None:
    """Serve until cancelled.

    Raises:
        StartError: the port is taken, or is not ours to take.
    """
    listening = _listen(host, port)
    config = uvicorn.Config(
        app, loop="none", log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=LINGER_S
    )
    server = _Server(config)
    with listening:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            await asyncio.shield(serving)
        finally:
            server.should_exit = True
            await serving


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartError(
            f"The web page cannot listen on {host}: {error}", "Set web.host to an address of this machine."
        ) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
        listening.setblocking(False)  # noqa: FBT003 - the call's only argument
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            remedy = "Stop the program that uses it, or choose another with IOTCORE_WEB__PORT or web.port."
            raise StartError(f"Port {port} on {host} is taken", remedy) from error
        remedy = "Choose an address of this machine (web.host) and a port above 1023 (web.port)."
        raise StartError(f"The web page cannot listen on {host}, port {port}: {error.strerror}", remedy) from error
    return listening
