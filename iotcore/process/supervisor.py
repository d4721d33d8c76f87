"""The supervisor: one child process for each part of the platform; a dead one is started again, all of them stop together.

A child that dies again and again waits longer each time (to `MAX_BACKOFF_S`); one that lived `STEADY_S` starts afresh at once.
Children notice by themselves when their parent is gone (`watch_parent`), so that kill -9 of the supervisor leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Mapping, Sequence

log = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.2
MAX_BACKOFF_S = 5.0
STEADY_S = 10.0
STOP_TIMEOUT_S = 8.0
PARENT_POLL_S = 0.5
MAX_LINE_BYTES = 1 << 20
PARENT_VARIABLE = "IOTCORE_PARENT"  # the pid of the supervisor, for its children


class Supervisor:
    """Runs named commands until it is stopped. `pids` tells which process is which."""

    def __init__(self, commands: Mapping[str, Sequence[str]], *, stop_timeout_s: float = STOP_TIMEOUT_S) -> None:
        self._commands = commands
        self._stop_timeout_s = stop_timeout_s
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stages: list[tuple[str, ...]] = []
        self.restarts: dict[str, int] = dict.fromkeys(commands, 0)

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the children that live."""
        return {name: child.pid for name, child in self._children.items() if child.returncode is None}

    def start(self, *names: str) -> None:
        """Start keeping these children alive (all of them when none is named)."""
        fresh = tuple(name for name in names or tuple(self._commands) if name not in self._tasks)
        self._stages.append(fresh)
        for name in fresh:
            self._tasks[name] = asyncio.create_task(self._keep(name), name=f"keep {name}")

    async def stop(self) -> None:
        """End all children, those of the last `start` first, so that the lanes still have their brokers while they finish."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()
        while self._stages:
            await self._end(self._stages.pop())

    async def _end(self, names: Sequence[str]) -> None:
        """Ask these children to end, and pass on their last words; in the end kill what is left of them."""
        living = {name: self._children[name] for name in names if name in self.pids}
        for child in living.values():
            child.terminate()
        done = asyncio.gather(*(self._last_words(name, child) for name, child in living.items()))
        try:
            await asyncio.wait_for(done, self._stop_timeout_s)
        except TimeoutError:
            for name, child in living.items():
                if child.returncode is None:
                    log.warning("%s (process %d) did not end in %.0f s; killed", name, child.pid, self._stop_timeout_s)
                    child.kill()
            await asyncio.gather(*(child.wait() for child in living.values()))

    async def _last_words(self, name: str, child: asyncio.subprocess.Process) -> None:
        assert child.stderr is not None
        await self._relay(name, child.stderr)
        await child.wait()

    async def _keep(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        backoff_s = FIRST_BACKOFF_S
        while True:
            started_s = loop.time()
            child = await self._spawn(name)
            assert child.stderr is not None
            await self._relay(name, child.stderr)
            code = await child.wait()
            backoff_s = FIRST_BACKOFF_S if loop.time() - started_s > STEADY_S else min(backoff_s * 2, MAX_BACKOFF_S)
            self.restarts[name] += 1
            log.warning("%s ended with code %s; starting it again in %.1f s", name, code, backoff_s)
            await asyncio.sleep(backoff_s)

    async def _spawn(self, name: str) -> asyncio.subprocess.Process:
        # shielded: a stop in the middle of a start must still learn of the child, or it would outlive us
        spawning = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *self._commands[name],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
                limit=MAX_LINE_BYTES,
                start_new_session=True,  # a Ctrl-C in the terminal reaches the supervisor alone, which then stops its children
            )
        )
        try:
            child = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            self._children[name] = await spawning
            raise
        self._children[name] = child
        return child

    @staticmethod
    async def _relay(name: str, stream: asyncio.StreamReader) -> None:
        """Pass on what a child says, until it says no more."""
        while line := await stream.readline():
            log.info("%s: %s", name, line.decode(errors="replace").rstrip())


def command(*arguments: str) -> list[str]:
    """The command line that runs this very iotcore again with other arguments."""
    return [sys.executable, "-m", "iotcore", *arguments]


async def watch_parent() -> None:
    """Return when the process that started us is gone; never for a process that was started by hand."""
    parent = os.environ.get(PARENT_VARIABLE)
    while parent is None or os.getppid() == int(parent):  # noqa: ASYNC110 - a dead parent tells nobody, but by getppid
        await asyncio.sleep(PARENT_POLL_S)
