"""Who is in which group, kept current beside a directory: for whoever asks at any moment and must not wait for a query."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from iotcore.clock import Clock
from iotcore.errors import IotError
from iotcore.registry.directory import Directory
from iotcore.registry.groups import Group, Groups, GroupStore

LOOK_S = 2.0
FIRMWARE_S = 30.0  # between two readings of what devices report: a hundred thousand rows
log = logging.getLogger(__name__)


class Grouped:
    """`groups` are the documents, `members` who is in them. Following a large city takes a part of a second: on a thread."""

    def __init__(
        self, store: GroupStore, directory: Callable[[], Directory], firmware: Callable[[], Mapping[str, str]], clock: Clock
    ) -> None:
        self._store = store
        self._directory = directory
        self._read_firmware = firmware
        self._clock = clock
        self._firmware: Mapping[str, str] = {}
        self._firmware_s: float | None = None
        self.groups: Mapping[str, Group] = {}
        self.members = Groups()

    def firmware(self, device: str) -> str:
        """What a device reported last; "" for nothing."""
        return self._firmware.get(device, "")

    def of(self, device: str) -> list[tuple[str, str]]:
        """Id and title of the groups that a device is in, by title."""
        named = [(name, self.groups[name].document.title) for name in self.members.of(device) if name in self.groups]
        return sorted(named, key=lambda one: (one[1], one[0]))

    async def refresh(self) -> None:
        """Follow the registry, the directory and what devices report."""
        now_s = self._clock.monotonic_s()
        if self._firmware_s is None or now_s - self._firmware_s >= FIRMWARE_S:
            self._firmware = await asyncio.to_thread(self._read_firmware)
            self._firmware_s = now_s
        groups = await self._store.all()
        await asyncio.to_thread(self.members.follow, groups, self._directory(), self._firmware)
        self.groups = groups

    async def run(self, look_s: float = LOOK_S) -> None:
        """Refresh every few seconds until cancelled; when the registry fails, the last groups stay in use."""
        failing = False
        while True:
            try:
                await self.refresh()
                failing = False
            except IotError as error:
                if not failing:
                    log.warning("groups cannot be read; the last ones stay in use: %s", error)
                failing = True
            await asyncio.sleep(look_s)
