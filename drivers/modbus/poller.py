"""Poller: every Modbus unit of the directory, each at its own pace, into the outbox.

directory ─► lines (one task and one connection for each host:port) ─► requests of the spec's plan ─► decode ─► put

A poll always gives a reading with every point of the spec: what could not be read is None, BAD and why, never the last value
again. Units behind one gateway take turns, so a dead one costs its neighbours at most one timeout a round; units on lines of
their own never wait for each other. After a failure the line is tried again at the unit's next turn: recovery takes at most
one interval.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from drivers.modbus.connection import Connection, parse
from drivers.modbus.line import Line, Unit
from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.reading import Quality, Scalar, Value
from iotcore.registry.directory import Binding, Directory
from iotcore.specs import plan

Put = Callable[[str, str, Mapping[str, Scalar | None], Mapping[str, str], int], Awaitable[object]]
LOOK_S = 0.5  # how often the directory is looked at; it only changes as a whole
NOWHERE = ("", 0)  # the line of units whose connection string makes no sense


@dataclass(slots=True)
class Counters:
    """Since the start."""

    polls: int = 0
    failed: int = 0  # polls in which not every request was answered
    not_kept: int = 0  # readings that the outbox could not keep


class Poller:
    """`put(domain, device, values, q, ts)` keeps a reading, as `Outbox.put` does. `interval_s` overrides those of the specs."""

    def __init__(self, directory: Callable[[], Directory], put: Put, clock: Clock, *, interval_s: float | None = None) -> None:
        self.counters = Counters()
        self.failing: dict[str, str] = {}  # device → why its last poll failed
        self._directory = directory
        self._put = put
        self._clock = clock
        self._interval_s = interval_s
        self._lines: dict[tuple[str, int], Line] = {}
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}

    @property
    def skipped(self) -> int:
        """Polls that did not fit in because others on their line took too long."""
        return sum(line.schedule.skipped for line in self._lines.values())

    async def run(self) -> None:
        """Poll for ever, following the directory; ends only by cancellation, and then closes every connection."""
        seen: Directory | None = None
        async with asyncio.TaskGroup() as tasks:
            while True:
                if (now := self._directory()) is not seen:
                    seen = now
                    self._follow(now, tasks)
                await asyncio.sleep(LOOK_S)

    def _follow(self, directory: Directory, tasks: asyncio.TaskGroup) -> None:
        by_line: dict[tuple[str, int], dict[str, Unit]] = {}
        for binding in directory.devices.values():
            if binding.spec.protocol == "modbus" and binding.accepted:
                unit = self._unit(binding)
                by_line.setdefault(unit.address.line if unit.address else NOWHERE, {})[unit.device] = unit
        for gone in set(self._lines) - set(by_line):
            del self._lines[gone]
            self._tasks.pop(gone).cancel()
        for key, units in by_line.items():
            if key not in self._lines:
                line = self._lines[key] = Line(Connection(*key), self._polled, self._clock)
                self._tasks[key] = tasks.create_task(line.run(), name=f"modbus {key[0]}:{key[1]}")
            self._lines[key].assign(units)
        polled = {device for units in by_line.values() for device in units}
        self.failing = {device: why for device, why in self.failing.items() if device in polled}

    def _unit(self, binding: Binding) -> Unit:
        spec = binding.spec
        try:
            address = parse(binding.connection)
        except ValueError:
            address = None
        interval_s = spec.interval_s if self._interval_s is None else self._interval_s
        return Unit(binding.device, binding.domain, spec, address, tuple(plan.requests(spec)), interval_s)

    async def _polled(self, unit: Unit, values: tuple[Value, ...], why: str) -> None:
        self.counters.polls += 1
        if why:
            self.counters.failed += 1
            self.failing[unit.device] = why
        else:
            self.failing.pop(unit.device, None)
        told = {value.point: value.value for value in values}
        q = {v.point: f"{v.quality.value}:{v.why}" if v.why else v.quality.value for v in values if v.quality is not Quality.GOOD}
        try:
            await self._put(unit.domain, unit.device, told, q, round(self._clock.wall_ms()))
        except StoreError:
            self.counters.not_kept += 1
