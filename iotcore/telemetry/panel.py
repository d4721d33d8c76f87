"""Panel: what a person sees of every device now: last values, presence, faults.

Readings are noted in memory and written to telemetry.db together: twice a second, and less often when that would take more than
a tenth of the time, so that a flood costs the page's tables no more than its devices. A crash loses what was not yet written of
this view; the readings themselves are in the spool.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.journal.conduct import Conduct, Row, save
from iotcore.journal.faults import Fault, Faults
from iotcore.journal.quarantine import clear_fault, raise_fault
from iotcore.journal.throttle import Throttle
from iotcore.reading import Reading, Scalar, Value
from iotcore.telemetry.embedded import TelemetryFile
from iotcore.wire.arrival import Presence, Refusal

WRITE_EVERY_S = 0.5
REST_FACTOR = 9.0  # after a write, times its duration until the next: a tenth of the time at most
LONGEST_REST_S = 30.0
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Device:
    """What is to be told of one device with the next write.

    `newest` is the last live reading, later than all of `values`; while each has the same points, the one before it is forgotten.
    """

    values: dict[str, tuple[Value, float, float, bool]]  # point → value, observed, received, late
    newest: Reading | None = None
    last_seen_ms: float | None = None
    state: str = ""
    changed_ms: float | None = None
    firmware: str = ""


class Panel:
    """Notes readings, presence and faults, and writes them to `file` while `run` runs."""

    def __init__(self, file: TelemetryFile, clock: Clock) -> None:
        self._file = file
        self._clock = clock
        self._pending: dict[str, _Device] = {}
        self._noted = asyncio.Event()
        self._faults = Faults()
        self._conducted: dict[str, Row] = {}
        self._changed: dict[Fault, tuple[int, bool]] = {}  # how often it was raised since the last write, and whether it stands

    async def load(self) -> list[Fault]:
        """Remember the faults that stood when the process ended, so that good readings can end them."""

        def read(connection: sqlite3.Connection) -> list[tuple[str, str]]:
            return connection.execute("SELECT device, reason FROM fault WHERE cleared_ms IS NULL").fetchall()

        standing = await self._file.in_transaction(read)
        self._faults = Faults(standing)
        return standing

    def readings(self, readings: Iterable[Reading], *, missed: bool = False) -> None:
        """Readings that came now, or that we `missed` when they came; their values are the last ones unless later are known."""
        for reading in readings:
            device = self._pending.get(reading.device) or self._device(reading.device)
            live = not (missed or reading.backlog)
            if device.newest is not None and not (live and _same_points(device.newest, reading)):
                _fold(device, device.newest, missed=False)
                device.newest = None
            if live:
                device.newest = reading
            else:
                _fold(device, reading, missed=missed)
        self._noted.set()

    def presence(self, presence: Presence, at_ms: float, *, retained: bool) -> None:
        """A birth or a will. Only a birth that came live says that the device was seen."""
        device = self._device(presence.device)
        device.state = presence.message.state
        device.changed_ms = at_ms
        device.firmware = presence.message.fw or device.firmware
        if presence.message.state == "online" and not retained:
            device.last_seen_ms = at_ms
        self._noted.set()

    def judge(self, readings: Iterable[Reading]) -> None:
        """What accepted readings say of their devices: bad values and an odd clock are faults, the opposite ends them."""
        for reading in readings:
            self._faults.accepted(reading)
        self._note_faults()

    def refused(self, refusal: Refusal) -> None:
        """A message of a device that we know was not accepted."""
        self._faults.refused(refusal)
        self._note_faults()

    def offline(self, device: str) -> None:
        """A device is gone, or its gateway is."""
        self._faults.offline(device)
        self._note_faults()

    def online(self, device: str) -> None:
        """A device said that it is there."""
        self._faults.online(device)
        self._note_faults()

    def conduct(self, conduct: Conduct, throttle: Throttle, skews: Mapping[str, float], now_s: float) -> None:
        """How devices deliver: what changed since the last call, and the faults of it."""
        conduct.judge(self._faults, throttle, now_s)
        for row in conduct.take(skews):
            known = self._conducted.get(row.device)
            self._conducted[row.device] = row if known is None else known.joined(row)
        if self._conducted:
            self._noted.set()
        self._note_faults()

    async def run(self) -> None:
        """Write what was noted until cancelled; what could not be written is tried again, then what was noted meanwhile."""
        work = None
        while True:
            if work is None:
                await self._noted.wait()
                self._noted.clear()
                work = self._taken()
            begun_s = self._clock.monotonic_s()
            if await self._written(work):
                work = None
            took_s = self._clock.monotonic_s() - begun_s
            await asyncio.sleep(min(max(WRITE_EVERY_S, REST_FACTOR * took_s), LONGEST_REST_S))

    async def write(self) -> bool:
        """Write everything noted so far, once; False when the file could not take it."""
        return await self._written(self._taken())

    def _taken(self) -> Callable[[sqlite3.Connection], None]:
        pending, self._pending = self._pending, {}
        changed, self._changed = self._changed, {}
        conducted, self._conducted = self._conducted, {}
        now_ms = self._clock.wall_ms()

        def store(connection: sqlite3.Connection) -> None:
            for device in pending.values():
                if device.newest is not None:
                    _fold(device, device.newest, missed=False)
                    device.newest = None  # a write that fails is tried again
            connection.executemany(VALUE, _value_rows(pending))
            connection.executemany(PRESENCE, _presence_rows(pending))
            save(connection, conducted.values(), now_ms)
            for fault, (times, stands) in changed.items():
                for _ in range(times):
                    raise_fault(connection, *fault, now_ms)
                if not stands:
                    clear_fault(connection, *fault, now_ms)

        return store

    async def _written(self, work: Callable[[sqlite3.Connection], None]) -> bool:
        try:
            await self._file.in_transaction(work)
        except StoreError as error:
            log.warning("what the page shows could not be written: %s", error)
            return False
        return True

    def _note_faults(self) -> None:
        """Remember what changed; a fault that came and went between two writes still counts."""
        raised, cleared = self._faults.take()
        for fault in raised:
            self._changed[fault] = (self._changed.get(fault, (0, True))[0] + 1, True)
        for fault in cleared:
            self._changed[fault] = (self._changed.get(fault, (0, True))[0], False)
        if raised or cleared:
            self._noted.set()

    def _device(self, name: str) -> _Device:
        device = self._pending.get(name)
        if device is None:
            device = self._pending[name] = _Device({})
        return device


# A live value replaces whatever is there; one from a backlog only what was observed before it.
VALUE = """
INSERT INTO latest (device, point, value, quality, why, observed_ms, received_ms) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (device, point) DO UPDATE SET value = excluded.value, quality = excluded.quality, why = excluded.why,
    observed_ms = excluded.observed_ms, received_ms = excluded.received_ms
WHERE NOT ? OR excluded.observed_ms >= latest.observed_ms
"""
PRESENCE = """
INSERT INTO presence (device, state, changed_ms, last_seen_ms, firmware) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (device) DO UPDATE SET state = CASE excluded.state WHEN '' THEN state ELSE excluded.state END,
    changed_ms = coalesce(excluded.changed_ms, changed_ms), last_seen_ms = coalesce(excluded.last_seen_ms, last_seen_ms),
    firmware = CASE excluded.firmware WHEN '' THEN firmware ELSE excluded.firmware END
"""


def _same_points(before: Reading, after: Reading) -> bool:
    """Whether `after` has a value for each point of `before`; a quick look that may miss it."""
    return before.clean is not None and after.clean is not None and before.clean.keys() == after.clean.keys()


def _fold(device: _Device, reading: Reading, *, missed: bool) -> None:
    """Put the values of a reading among those to be told."""
    if not missed:
        device.last_seen_ms = reading.received_ms
    device.firmware = reading.firmware or device.firmware
    late = reading.backlog or missed
    for value in reading.values:
        known = device.values.get(value.point)
        if known is None or not late or reading.observed_ms >= known[1]:
            device.values[value.point] = (value, reading.observed_ms, reading.received_ms, late)


def _value_rows(pending: Mapping[str, _Device]) -> Iterator[tuple[object, ...]]:
    for name, device in pending.items():
        for point, (value, observed_ms, received_ms, late) in device.values.items():
            yield name, point, _column(value.value), value.quality.value, value.why, observed_ms, received_ms, late


def _presence_rows(pending: Mapping[str, _Device]) -> Iterator[tuple[object, ...]]:
    for name, device in pending.items():
        yield name, device.state, device.changed_ms, device.last_seen_ms, device.firmware


def _column(value: Scalar | None) -> float | int | str | None:
    """A bool is the only INTEGER of the column, so that a reader can tell it from the number 1.0."""
    if isinstance(value, bool):
        return int(value)
    return float(value) if isinstance(value, int | float) else value
