"""/metrics of a process: one small listener, and nothing that could take its process with it.

A port that is taken is said once and tried again: a fire process must not die of its own statistics. The text is made on another
thread; a few connections at a time, each with a limit, and no more of HTTP than a scrape needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from prometheus_client import REGISTRY
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from iotcore import metrics
from iotcore.settings import MAX_WORKERS, Metrics

# each process's port is metrics.port and so much; the numbers never change, for a scrape configuration holds them
OFFSETS = {
    "fire": 0,
    "modbus": 1,
    "web": 2,
    "keeper": 3,
    "telemetry": 4,
    **{f"telemetry-{number}": 3 + number for number in range(1, MAX_WORKERS + 1)},
    "broker-fire": 8,
    "broker-field": 9,
    "fire-1": 0,
    **{f"fire-{number}": 8 + number for number in range(2, MAX_WORKERS + 1)},
}
TRY_AGAIN_S = 5.0
REQUEST_LIMIT_S = 5.0
MAX_CONNECTIONS = 8
MAX_HEAD_BYTES = 8 * 1024
LAG_EVERY_S = 0.5
log = logging.getLogger(__name__)


class MetricsListener:
    """`run` until cancelled. `said` is where it serves, or what keeps it from it; "" when there is nothing to serve."""

    def __init__(self, settings: Metrics, process: str, *, try_again_s: float = TRY_AGAIN_S) -> None:
        self.said = ""
        self.trouble = False
        self._host = settings.host
        self._port = settings.port + OFFSETS[process] if settings.port else 0
        self._open = 0
        self._try_again_s = try_again_s
        metrics.process_started.labels(process).set(time.time())

    def state(self) -> dict[str, str | bool]:
        """For the beat, which `iotcore doctor` reads."""
        return {"metrics": self.said, "metrics_trouble": self.trouble} if self._port else {}

    async def run(self) -> None:
        """Serve, and measure how late the event loop is."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_measure_lag())
            if self._port:
                group.create_task(self._serve())

    async def _serve(self) -> None:
        while True:
            try:
                server = await asyncio.start_server(self._answer, self._host, self._port, limit=MAX_HEAD_BYTES)
            except (OSError, OverflowError) as error:
                if not self.trouble:
                    log.warning("no metrics: %s:%d cannot be used (%s); trying again", self._host, self._port, error)
                self.said, self.trouble = f"{self._host}:{self._port} cannot be used", True
                await asyncio.sleep(self._try_again_s)
                continue
            self.said, self.trouble = f"{self._host}:{self._port}", False
            async with server:
                await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(REQUEST_LIMIT_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(await self._response(head.split(b" ", 2)[:2]))
                    await writer.drain()
        finally:
            self._open -= 1
            writer.close()

    async def _response(self, asked: list[bytes]) -> bytes:
        if self._open > MAX_CONNECTIONS:
            return _http("503 Service Unavailable", "text/plain", b"too many at once\n")
        if asked[0] != b"GET":
            return _http("405 Method Not Allowed", "text/plain", b"GET only\n")
        if asked[1].partition(b"?")[0] != b"/metrics":
            return _http("404 Not Found", "text/plain", b"/metrics\n")
        return _http("200 OK", CONTENT_TYPE_LATEST, await asyncio.to_thread(generate_latest, REGISTRY))


def _http(status: str, kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode("ascii") + body


async def _measure_lag() -> None:
    loop = asyncio.get_running_loop()
    while True:
        due_s = loop.time() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        metrics.loop_lag.observe(max(0.0, loop.time() - due_s))
