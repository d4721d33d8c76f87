"""Siblings: the other fire processes of this machine, watched so that one's end is known at once, not when its leases run out.

    run/fire-2.json ─► its process ─► ended ─► what was leased to it is free, and our dispatcher looks

A replica has decided every fire that a sibling had decided; all that waits for the dead one are the notices that were leased to
it. On other machines, and where Linux's pidfd is missing, they wait for the end of the lease: a second.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from iotcore.clock import Clock
from iotcore.process.serve import beats

log = logging.getLogger(__name__)

LOOK_S = 0.5


class Siblings:
    """Those called `names`, in a data folder. `gone` is told the owner of the leases, and the name, of one that has ended."""

    def __init__(self, folder: Path, names: Collection[str], clock: Clock, gone: Callable[[str, str], object]) -> None:
        self._folder = folder
        self._names = frozenset(names)
        self._clock = clock
        self._gone = gone
        self._watched: dict[str, int] = {}  # owner → file descriptor of its process

    async def run(self) -> None:
        """Watch until cancelled."""
        if not self._names or not hasattr(os, "pidfd_open"):
            return
        loop = asyncio.get_running_loop()
        try:
            while True:
                told = await asyncio.to_thread(beats, self._folder, self._clock)
                for name in self._names & told.keys():
                    self._watch(loop, name, told[name])
                await asyncio.sleep(LOOK_S)
        finally:
            for descriptor in self._watched.values():
                loop.remove_reader(descriptor)
                os.close(descriptor)
            self._watched.clear()

    def _watch(self, loop: asyncio.AbstractEventLoop, name: str, told: dict[str, Any]) -> None:
        owner, pid = told.get("owner"), told.get("pid")
        if not isinstance(owner, str) or not isinstance(pid, int) or owner in self._watched or pid == os.getpid():
            return
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:  # it is gone already: its leases end by themselves
            return
        self._watched[owner] = descriptor
        loop.add_reader(descriptor, self._ended, loop, name, owner)

    def _ended(self, loop: asyncio.AbstractEventLoop, name: str, owner: str) -> None:
        descriptor = self._watched.pop(owner, None)
        if descriptor is None:
            return
        loop.remove_reader(descriptor)
        os.close(descriptor)
        log.warning("%s has ended; what it had leased is ours", name)
        self._gone(owner, name)
