"""The watchdog with real processes, broker and supervisor: what stands still is back within 10 s, and nothing else ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.load import BarePublisher
from iotcore.process.supervisor import Supervisor
from iotcore.process.watchdog import EXIT_STALLED, Watchdog
from tests.support.mosquitto import Mosquitto

LIMIT_S = 10.0
NAMES = ("stall", "block", "full", "slow", "stopped")
STOPPED_S = 9.0


def order(port: int, name: str, what: str) -> None:
    with BarePublisher(port, f"orders-{name}") as publisher:
        publisher.send([(f"orders/{name}".encode(), what.encode())])
        publisher.drain()


class Lanes:
    """The lanes' logs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def lines(self, name: str) -> list[str]:
        path = self._folder / f"{name}.log"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def starts(self, name: str) -> int:
        return sum(line.startswith("start ") for line in self.lines(name))

    async def until(self, condition: Callable[[], bool], limit_s: float, what: str) -> float:
        """Wait for it; the seconds it took."""
        began_s = time.monotonic()
        while not condition():
            assert time.monotonic() - began_s < limit_s, f"not in {limit_s} s: {what}"
            await asyncio.sleep(0.05)
        return time.monotonic() - began_s


async def test_a_lane_or_a_loop_that_stands_still_is_restarted_within_ten_seconds_and_nothing_else_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All at once, to take the time of one: a full disk, a slow commit and a process that was stopped are no reason to end."""
    caplog.set_level("INFO")
    (tmp_path / "run").mkdir()
    lanes = Lanes(tmp_path)
    with Mosquitto(tmp_path) as broker:
        commands = {n: [sys.executable, "-m", "tests.support.watched_lane", str(broker.port), n, str(tmp_path)] for n in NAMES}
        supervisor = Supervisor(commands)
        supervisor.start()
        try:
            for name in NAMES:  # the first turn tells that it has started
                await lanes.until(lambda n=name: lanes.starts(n) == 1, 20.0, f"{name} starts")  # type: ignore[misc]
                await lanes.until(lambda n=name: f" as {n} " in broker.log, 20.0, name)  # type: ignore[misc]
                await asyncio.to_thread(order, broker.port, name, "go")
                await lanes.until(lambda n=name: "done go" in lanes.lines(n), 20.0, f"{name} serves")  # type: ignore[misc]
            for name in NAMES[:4]:
                await asyncio.to_thread(order, broker.port, name, name)
            os.kill(supervisor.pids["stopped"], signal.SIGSTOP)
            stopped_s = time.monotonic()
            await asyncio.to_thread(order, broker.port, "stopped", "go on")
            for name in ("stall", "block"):
                await lanes.until(lambda n=name: lanes.starts(n) == 2, LIMIT_S, f"{name} is restarted")  # type: ignore[misc]
                await lanes.until(lambda n=name: f"done {n}" in lanes.lines(n), LIMIT_S, f"{name} serves again")  # type: ignore[misc]
            await asyncio.sleep(max(0.0, stopped_s + STOPPED_S - time.monotonic()))
            os.kill(supervisor.pids["stopped"], signal.SIGCONT)
            for name, done in (("full", "done full"), ("slow", "done slow"), ("stopped", "done go on")):
                await lanes.until(lambda n=name, d=done: d in lanes.lines(n), LIMIT_S, done)  # type: ignore[misc]
                assert lanes.starts(name) == 1, name
        finally:
            await supervisor.stop()
    assert supervisor.restarts == {"stall": 1, "block": 1, "full": 0, "slow": 0, "stopped": 0}
    said = caplog.text
    assert f"stall ended with code {EXIT_STALLED}" in said
    assert f"block ended with code {EXIT_STALLED}" in said
    assert "the lane lane stands still" in said
    assert "the event loop stands still" in said
    assert 'watched_lane.py", line' in said  # the stacks: where it stood


class StuckLane:
    """A lane with work that it does not do."""

    turns = 1
    holding = True


async def test_while_the_disk_does_not_answer_nobody_is_restarted(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    probe = tmp_path / "run" / f"watchdog-{os.getpid()}"
    os.mkfifo(probe)  # a pipe without a reader: to open it for writing takes for ever, as a file on a disk that hangs does
    ended = asyncio.Event()
    codes: list[int] = []
    loop = asyncio.get_running_loop()

    def end(code: int) -> None:
        codes.append(code)
        loop.call_soon_threadsafe(ended.set)

    watchdog = Watchdog(tmp_path, {"stuck": StuckLane()}, end)
    while not watchdog.look():
        pass
    running = asyncio.create_task(watchdog.run())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2.5):
            await ended.wait()
    with await asyncio.to_thread(probe.open, "rb"):
        async with asyncio.timeout(LIMIT_S):
            await ended.wait()
    assert codes == [EXIT_STALLED]
    running.cancel()
    await asyncio.wait({running})
