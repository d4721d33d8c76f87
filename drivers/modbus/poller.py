"""Poller: every Modbus unit of the directory, each group of its points at its own pace, into the outbox.

directory ─► roster of lines (one connection each) ─► schedule ─► question ─► answer ─► decode ─► changed or due? ─► put

A poll always ends with every point of its group: what could not be read is None, BAD and why, never the last value again.
What is told when, and what a silent unit costs its neighbours: docs/modbus.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from drivers.modbus.connection import Connection
from drivers.modbus.line import Line
from drivers.modbus.roster import NOWHERE, Bus, Member, roster
from drivers.modbus.told import Counters, Put
from drivers.modbus.unit import Unit
from iotcore.clock import Clock
from iotcore.registry.directory import Directory
from iotcore.specs.bus import Serial
from iotcore.wire import modbus_address

LOOK_S = 0.5  # how often the directory is looked at; it only changes as a whole
Key = tuple[modbus_address.Line, Serial | None]

log = logging.getLogger(__name__)


class Poller:
    """`put(domain, device, values, q, ts, kind=…, fw=…, test=…)` keeps a reading, as `Outbox.put` does.

    `interval_s` replaces the interval of every spec; `certs` is the folder of the certificates that tls:// lines name.
    """

    def __init__(
        self,
        directory: Callable[[], Directory],
        put: Put,
        clock: Clock,
        *,
        interval_s: float | None = None,
        certs: Path | None = None,
    ) -> None:
        self.counters = Counters()
        self._directory = directory
        self._put = put
        self._clock = clock
        self._interval_s = interval_s
        self._certs = certs
        self._units: dict[str, tuple[Member, Unit]] = {}
        self._lines: dict[Key, Line] = {}
        self._tasks: dict[Key, list[asyncio.Task[None]]] = {}

    @property
    def failing(self) -> dict[str, str]:
        """Device → why its last poll failed."""
        return {device: unit.failing for device, (_, unit) in self._units.items() if unit.failing}

    @property
    def refused(self) -> dict[str, str]:
        """Device → why it is not polled at all; for a fire budget, the arithmetic."""
        return {device: member.trouble.story for device, (member, _) in self._units.items() if member.trouble}

    @property
    def skipped(self) -> int:
        """Polls that did not fit in because others on their line took too long."""
        return sum(line.schedule.skipped for line in self._lines.values())

    @property
    def silent(self) -> frozenset[str]:
        """Devices that do not answer: each is asked once an interval."""
        return frozenset().union(*(line.schedule.silent for line in self._lines.values()))

    async def run(self) -> None:
        """Poll for ever, following the directory; ends only by cancellation, and then closes every connection."""
        seen: Directory | None = None
        async with asyncio.TaskGroup() as tasks:
            while True:
                if (now := self._directory()) is not seen:
                    seen = now
                    settled = [device for device, (member, _) in self._units.items() if member.trouble is None]
                    # Planning a panel of twenty thousand points takes a second: nobody's fire waits for that.
                    self._follow(await asyncio.to_thread(roster, now, self._interval_s, settled), tasks)
                await asyncio.sleep(LOOK_S)

    def _follow(self, found: Mapping[modbus_address.Line, Bus], tasks: asyncio.TaskGroup) -> None:
        buses = {(line, bus.serial): bus for line, bus in found.items()}
        for gone in set(self._lines) - set(buses):
            del self._lines[gone]
            for task in self._tasks.pop(gone):
                task.cancel()
        known, self._units = self._units, {}
        for key, bus in buses.items():
            units = {device: self._unit(device, member, known.get(device)) for device, member in bus.members.items()}
            if key not in self._lines:
                self._open(key, tasks)
            self._lines[key].assign(units)

    def _open(self, key: Key, tasks: asyncio.TaskGroup) -> None:
        address, serial = key
        connection = None if address == NOWHERE else Connection(address, serial, self._certs)
        line = self._lines[key] = Line(connection, self._put, self._clock, self.counters, serial)
        self._tasks[key] = [tasks.create_task(part, name=f"modbus {address}") for part in line.parts()]

    def _unit(self, device: str, member: Member, before: tuple[Member, Unit] | None) -> Unit:
        """The unit as it was, if the directory still says the same of it."""
        if before is not None and _same(before[0], member):
            self._units[device] = before
            return before[1]
        if member.trouble is not None:
            log.error("%s is not polled: %s: %s", device, member.trouble.reason, member.trouble.story)
        unit = Unit(
            device,
            member.binding.domain,
            member.spec,
            member.address,
            trouble=member.trouble.reason if member.trouble else "",
            longest_s=self._interval_s,
        )
        self._units[device] = (member, unit)
        return unit


def _same(one: Member, other: Member) -> bool:
    return (one.binding.domain, one.spec, one.address, one.trouble) == (
        other.binding.domain,
        other.spec,
        other.address,
        other.trouble,
    )
