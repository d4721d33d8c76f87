"""The supervisor with real children, and how a process of the platform ends."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import pytest

from iotcore.process.serve import end
from iotcore.process.supervisor import Supervisor
from tests.support.until import until

# Writes its name to a file when it has ended properly; argv: the file, its name, how long it takes to end.
CHILD = """
import signal, sys, time
def finish(*_):
    time.sleep(float(sys.argv[3]))
    with open(sys.argv[1], "a") as said:
        said.write(sys.argv[2] + "\\n")
    print("goodbye", file=sys.stderr)
    sys.exit(0)
signal.signal(signal.SIGTERM, finish)
with open(sys.argv[1], "a") as said:
    said.write(sys.argv[2] + " is up\\n")
while True:
    time.sleep(10)
"""
STUBBORN = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', file=sys.stderr); time.sleep(60)"


def child(said: Path, name: str, ends_after_s: float = 0.0) -> list[str]:
    return [sys.executable, "-c", CHILD, str(said), name, str(ends_after_s)]


def lines(said: Path) -> list[str]:
    return said.read_text().split("\n")[:-1] if said.exists() else []


async def test_brokers_end_after_the_lanes_that_still_use_them(tmp_path: Path) -> None:
    said = tmp_path / "said"
    running = Supervisor({"broker": child(said, "broker"), "lane": child(said, "lane", 0.3), "web": child(said, "web")})
    running.start("broker")
    running.start("lane", "web")
    await until(lambda: len(lines(said)) == 3)
    await running.stop()
    assert lines(said)[3:] == ["web", "lane", "broker"]
    assert running.pids == {}


async def test_what_a_child_says_while_it_ends_is_heard(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    running = Supervisor({"lane": child(tmp_path / "said", "lane")})
    running.start()
    await until(lambda: len(lines(tmp_path / "said")) == 1)
    await running.stop()
    assert "lane: goodbye" in caplog.text


async def test_a_child_that_died_runs_again(tmp_path: Path) -> None:
    said = tmp_path / "said"
    running = Supervisor({"lane": child(said, "lane")})
    running.start()
    await until(lambda: len(lines(said)) == 1)
    first = running.pids["lane"]
    running._children["lane"].kill()
    await until(lambda: len(lines(said)) == 2)
    assert running.pids["lane"] != first
    assert running.restarts == {"lane": 1}
    await running.stop()


async def test_a_stop_during_a_start_leaves_no_child(tmp_path: Path) -> None:
    for turn in range(5):
        said = tmp_path / f"said-{turn}"
        running = Supervisor({"lane": child(said, "lane")})
        running.start()
        for _ in range(turn):
            await asyncio.sleep(0)
        await running.stop()
        assert running.pids == {}


async def test_a_child_that_does_not_end_is_killed_by_name(caplog: pytest.LogCaptureFixture) -> None:
    running = Supervisor({"lane": [sys.executable, "-c", STUBBORN]}, stop_timeout_s=0.3)
    caplog.set_level("INFO")
    running.start()
    await until(lambda: "lane: up" in caplog.text)
    await running.stop()
    assert "lane (process" in caplog.text
    assert running.pids == {}


async def test_a_process_ends_although_a_library_has_swallowed_its_cancellation() -> None:
    deaf = asyncio.Event()

    async def child_that_is_deaf_once() -> None:
        with contextlib.suppress(asyncio.CancelledError):  # as asyncio.wait_for does in CPython 3.11
            await asyncio.Event().wait()
        deaf.set()
        await asyncio.Event().wait()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child_that_is_deaf_once())

    task = asyncio.create_task(main())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    async with asyncio.timeout(5.0):
        await end(task)
    assert deaf.is_set()
    assert task.cancelled()
