"""A line: one connection, and the units behind it taking turns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from drivers.modbus.connection import Address, Connection
from drivers.modbus.schedule import Schedule
from iotcore.clock import Clock
from iotcore.reading import Value
from iotcore.specs import decode
from iotcore.specs.model import DeviceSpec, ModbusLimits, Table
from iotcore.specs.plan import Request

NO_LIMITS = ModbusLimits()


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit as its line polls it; without an address its connection string made no sense."""

    device: str
    domain: str
    spec: DeviceSpec
    address: Address | None
    requests: tuple[Request, ...]
    interval_s: float


class Line:
    """Polls its units for ever; `polled(unit, values, why)` is told of each poll, `why` being "" when all was answered."""

    def __init__(
        self, connection: Connection, polled: Callable[[Unit, tuple[Value, ...], str], Awaitable[None]], clock: Clock
    ) -> None:
        self.schedule = Schedule()
        self._connection = connection
        self._polled = polled
        self._clock = clock
        self._units: Mapping[str, Unit] = {}
        self._changed = asyncio.Event()
        self._free_s = 0.0  # the unit asked last bears no question before

    def assign(self, units: Mapping[str, Unit]) -> None:
        """Poll these units from now on."""
        self._units = units
        self.schedule.keep({unit.device: unit.interval_s for unit in units.values()}, self._clock.monotonic_s())
        self._changed.set()

    async def run(self) -> None:
        """Ends only by cancellation, and then closes the connection."""
        try:
            while _wanted():
                await self._turn()
        finally:
            self._connection.close()

    async def _turn(self) -> None:
        self._changed.clear()
        first = self.schedule.first()
        wait_s = None if first is None else max(0.0, first[1] - self._clock.monotonic_s())
        if first is None or wait_s:
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                pass
            return
        unit = self._units[first[0]]
        values, why = await self._poll(unit)
        await self._polled(unit, values, why)
        if unit.device in self._units:  # nobody took it away meanwhile
            self.schedule.polled(unit.device, self._clock.monotonic_s())

    async def _poll(self, unit: Unit) -> tuple[tuple[Value, ...], str]:
        """All points of the unit. An exception fails its own request only; any other failure fails those that follow, too."""
        words: dict[tuple[Table, int], int] = {}
        failures: dict[str, str] = {}
        dead = "" if unit.address else "bad_connection"
        for request in unit.requests:
            why = dead
            if unit.address and not dead:
                why = await self._read(unit.address, unit.spec.modbus or NO_LIMITS, request, words)
                dead = "" if why.startswith("exception:") else why
            if why:
                failures.update((point, failures.get(point, why)) for point in request.points)
        return decode.values(unit.spec, words, failures), next(iter(failures.values()), "")

    async def _read(self, address: Address, limits: ModbusLimits, request: Request, words: dict[tuple[Table, int], int]) -> str:
        if (pause_s := self._free_s - self._clock.monotonic_s()) > 0:
            await asyncio.sleep(pause_s)
        reply = await self._connection.read(address.device_id, request, limits.timeout_s)
        self._free_s = self._clock.monotonic_s() + limits.min_gap_ms / 1000.0
        words.update(((request.table, request.address + i), word) for i, word in enumerate(reply.words))
        return reply.why


def _wanted() -> bool:
    """False once this task was cancelled: `asyncio.wait_for` inside pymodbus may swallow that (CPython before 3.12)."""
    task = asyncio.current_task()
    return task is None or not task.cancelling()
