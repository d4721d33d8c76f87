"""The metrics listener against real sockets: a port that is taken, odd requests, and what the doctor says of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from iotcore.clock import SystemClock
from iotcore.commands import doctor
from iotcore.process.alive import alive
from iotcore.process.metrics_http import MetricsListener
from iotcore.settings import Metrics, Settings
from tests.support.ports import free_port
from tests.support.until import until


@contextlib.asynccontextmanager
async def serving(listener: MetricsListener) -> AsyncIterator[None]:
    task = asyncio.create_task(listener.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


async def test_only_a_get_of_metrics_is_answered_with_metrics() -> None:
    port = free_port()
    listener = MetricsListener(Metrics(port=port), "fire")
    async with serving(listener):
        await until(lambda: listener.said == f"127.0.0.1:{port}")
        sound = await ask(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sound.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"iotcore_process_started_seconds" in sound
        assert (await ask(port, b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
        assert (await ask(port, b"POST /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 405 ")
        assert await ask(port, b"x" * 20_000) == b"", "a head without end is cut off"
        assert (await ask(port, b"GET /metrics?x HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_port_0_means_none() -> None:
    listener = MetricsListener(Metrics(port=0), "fire")
    async with serving(listener):
        assert listener.state() == {}


async def test_a_port_that_is_taken_costs_the_metrics_and_not_the_process_and_the_doctor_says_so(
    tmp_path: Path,
) -> None:
    (tmp_path / "run").mkdir()
    clock = SystemClock()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = Settings(data=str(tmp_path), metrics=Metrics(port=port))
        task = asyncio.create_task(alive(settings, "fire", clock, lambda: {"connected": True}, try_again_s=0.05))
        path = tmp_path / "run" / "fire.json"
        await until(lambda: path.exists() and json.loads(path.read_bytes()).get("metrics_trouble") is True)
        found = await doctor._process_check(settings, "fire", clock)()
        assert (found.well, found.said) == (False, f"runs, without metrics: 127.0.0.1:{port} cannot be used")
        assert "metrics.port" in found.remedy
        assert not task.done()
    try:
        await until(lambda: json.loads(path.read_bytes())["metrics_trouble"] is False)
        assert (await doctor._process_check(settings, "fire", clock)()).well
    finally:
        task.cancel()
        await asyncio.wait({task})
