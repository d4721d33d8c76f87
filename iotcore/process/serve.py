"""What every process of the platform does alike: start, beat once a second, end on SIGTERM, Ctrl-C or the death of its parent."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from iotcore import disk
from iotcore.clock import Clock
from iotcore.process.supervisor import watch_parent

BEAT_S = 1.0
FRESH_BEAT_S = 5.0
CANCEL_AGAIN_S = 2.0  # CPython before 3.12 can lose a cancellation (wait_for, TaskGroup); a supervisor waits 8 s before it kills

log = logging.getLogger(__name__)


def serve(main: Coroutine[Any, Any, None], *, fast_loop: bool = False, cancel_again_s: float = CANCEL_AGAIN_S) -> None:
    """Run a process's main coroutine until it ends or is told to.

    `fast_loop`: uvloop, which helps Modbus and the web only. `cancel_again_s`: how long its end may take undisturbed.
    """
    factory = None
    if fast_loop and sys.platform != "win32":
        import uvloop  # noqa: PLC0415 - only two of the processes want it

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_until_told(main, cancel_again_s))


async def _until_told(main: Coroutine[Any, Any, None], cancel_again_s: float) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main)
    told = asyncio.create_task(watch_parent())
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, told.cancel)
    await asyncio.wait({task, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    await end(task, cancel_again_s)
    if task.cancelled():
        log.info("stopped")
    else:
        task.result()


async def end(task: asyncio.Task[None], cancel_again_s: float = CANCEL_AGAIN_S) -> None:
    """Cancel a task and wait for its end; when that takes long, whatever still runs is cancelled, again and again."""
    task.cancel()
    while not (await asyncio.wait({task}, timeout=cancel_again_s))[0]:
        for other in asyncio.all_tasks() - {asyncio.current_task()}:
            log.warning("still runs: %s", other.get_name())
            other.cancel()


async def beat(folder: Path, name: str, clock: Clock, state: Callable[[], dict[str, Any]]) -> None:
    """Write run/`name`.json once a second: alive, since when, what it says of itself. A disk that refuses only silences it."""
    started_ms = clock.wall_ms()
    path = folder / "run" / f"{name}.json"
    silent = False
    while True:
        said = {"pid": os.getpid(), "started_ms": started_ms, "at_ms": clock.wall_ms(), **state()}
        try:
            await asyncio.to_thread(_replace, path, json.dumps(said))
        except OSError as error:
            if not silent:
                log.warning("%s cannot be written: %s", path, error)
            silent = True
        else:
            silent = False
        await asyncio.sleep(BEAT_S)


def _replace(path: Path, text: str) -> None:
    """Readers see the old text or the new one; no fsync, for a beat is worth nothing after a power cut."""
    fresh = path.with_suffix(".new")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        if error.errno not in disk.NO_ROOM:
            raise
        _write_over(path, text.encode())


def _write_over(path: Path, text: bytes) -> None:
    """Into the page that the file has: a full disk has no other. One short write, and blanks where the old text was longer."""
    with path.open("r+b", buffering=0) as file:
        file.write(text.ljust(path.stat().st_size))


def beats(folder: Path, clock: Clock) -> dict[str, dict[str, Any]]:
    """What the processes that live have said of themselves lately."""
    found = {}
    for path in sorted((folder / "run").glob("*.json")):
        try:
            said = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        if clock.wall_ms() - said["at_ms"] < FRESH_BEAT_S * 1000.0:
            found[path.stem] = said
    return found
