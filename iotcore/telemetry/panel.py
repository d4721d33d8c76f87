"""Panel: what a person sees of every device now: last values, presence, faults.

Readings are noted in memory and written to telemetry.db together, at most twice a second: a flood costs the page's tables no more
than its devices. A crash loses at most the last half second of this view; the readings themselves are in the spool.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.journal.faults import Fault, Faults
from iotcore.journal.quarantine import clear_fault, raise_fault
from iotcore.reading import Reading, Scalar, Value
from iotcore.telemetry.embedded import TelemetryFile
from iotcore.wire.arrival import Presence, Refusal

WRITE_EVERY_S = 0.5
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Device:
    """What is to be told of one device with the next write."""

    values: dict[str, tuple[Value, float, float, bool]]  # point → value, observed, received, late
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
        self._changed: dict[Fault, tuple[int, bool]] = {}  # how often it was raised since the last write, and whether it stands

    async def load(self) -> None:
        """Remember the faults that stood when the process ended, so that good readings can end them."""

        def read(connection: sqlite3.Connection) -> list[tuple[str, str]]:
            return connection.execute("SELECT device, reason FROM fault WHERE cleared_ms IS NULL").fetchall()

        self._faults = Faults(await self._file.in_transaction(read))

    def reading(self, reading: Reading, *, missed: bool = False) -> None:
        """A reading that came now, or that we `missed` when it came; its values are the last ones unless a later one is known."""
        device = self._device(reading.device)
        if not missed:
            device.last_seen_ms = reading.received_ms
        device.firmware = reading.firmware or device.firmware
        late = reading.backlog or missed
        for value in reading.values:
            known = device.values.get(value.point)
            if known is None or not late or reading.observed_ms >= known[1]:
                device.values[value.point] = (value, reading.observed_ms, reading.received_ms, late)
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

    def judge(self, reading: Reading) -> None:
        """What an accepted reading says of its device: bad values and an odd clock are faults, the opposite ends them."""
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

    async def run(self) -> None:
        """Write what was noted until cancelled; what could not be written is tried again, then what was noted meanwhile."""
        work = None
        while True:
            if work is None:
                await self._noted.wait()
                self._noted.clear()
                work = self._taken()
            if await self._written(work):
                work = None
            await asyncio.sleep(WRITE_EVERY_S)

    async def write(self) -> bool:
        """Write everything noted so far, once; False when the file could not take it."""
        return await self._written(self._taken())

    def _taken(self) -> Callable[[sqlite3.Connection], None]:
        pending, self._pending = self._pending, {}
        changed, self._changed = self._changed, {}
        now_ms = self._clock.wall_ms()

        def store(connection: sqlite3.Connection) -> None:
            for name, device in pending.items():
                _store_values(connection, name, device)
                _store_presence(connection, name, device)
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


def _store_values(connection: sqlite3.Connection, name: str, device: _Device) -> None:
    """A live value replaces whatever is there; one from a backlog only what was observed before it."""
    for point, (value, observed_ms, received_ms, late) in device.values.items():
        connection.execute(
            "INSERT INTO latest (device, point, value, quality, why, observed_ms, received_ms) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (device, point) DO UPDATE SET value = excluded.value, quality = excluded.quality, why = excluded.why, "
            "observed_ms = excluded.observed_ms, received_ms = excluded.received_ms "
            "WHERE NOT ? OR excluded.observed_ms >= latest.observed_ms",
            (name, point, _column(value.value), value.quality.value, value.why, observed_ms, received_ms, late),
        )


def _store_presence(connection: sqlite3.Connection, name: str, device: _Device) -> None:
    connection.execute(
        "INSERT INTO presence (device, state, changed_ms, last_seen_ms, firmware) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (device) DO UPDATE SET state = CASE excluded.state WHEN '' THEN state ELSE excluded.state END, "
        "changed_ms = coalesce(excluded.changed_ms, changed_ms), last_seen_ms = coalesce(excluded.last_seen_ms, last_seen_ms), "
        "firmware = CASE excluded.firmware WHEN '' THEN firmware ELSE excluded.firmware END",
        (name, device.state, device.changed_ms, device.last_seen_ms, device.firmware),
    )


def _column(value: Scalar | None) -> float | int | str | None:
    """A bool is the only INTEGER of the column, so that a reader can tell it from the number 1.0."""
    if isinstance(value, bool):
        return int(value)
    return float(value) if isinstance(value, int | float) else value
