"""Commissioning in the registry: test modes, last tests, and what technicians told of a device.

A test mode belongs to one device, lasts 30 minutes at the most and ends by itself: everybody who asks compares its end with the
clock, so that no process has to be there to end it. The keeper only writes down that it is over.

What a technician tells is an entry that is added once and never changed, under a name that the phone made: the same entry again,
after a cellar without network, is the same entry. Of a place and of a signature the newest counts, and a phone says which entry
it had seen, so that nobody overwrites what he does not know of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from tortoise.backends.base.client import BaseDBAsyncClient

from iotcore.errors import Refused
from iotcore.registry import attachments
from iotcore.registry.attachments import Content
from iotcore.registry.audit import canonical
from iotcore.registry.database import Database, Writing, whole
from iotcore.registry.directory import InTest
from iotcore.registry.subjects import Subject
from iotcore.registry.tables import ID_LENGTH, DeviceRow
from iotcore.registry.tables_commissioning import DeviceTestRow, EntryRow, InTestRow
from iotcore.registry.tables_places import UnitRow

MINUTE_MS = 60_000
LONGEST_TEST_MS = 30 * MINUTE_MS  # a detector under test that nobody watches is no detector
ENTRIES_LIMIT = 200  # of one device: a technician's list, not a diary
BODY_LENGTH = 20_000  # characters of an entry's JSON
TESTABLE = ("registered", "provisioned", "active")
OVER = "clock"  # who ends a test mode whose time is up

EntryKind = Literal["photo", "location", "remark", "modbus", "sign"]
ONE_COUNTS: frozenset[EntryKind] = frozenset({"location", "sign"})


@dataclass(frozen=True, slots=True)
class LastTest:
    """The last test alarm of a device that went the whole road; `latency_ms`: from the detector's moment until durable."""

    device: str
    at_ms: int
    latency_ms: float
    by: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What a technician told. `number` counts up from 1 for each device; `at_ms` is the phone's clock, `received_ms` ours.

    `outcome` is what the platform found when it came in, such as the checklist of a signature; `file` the SHA-256 (hex) of the
    photo or record that belongs to it, "" for none.
    """

    id: str
    device: str
    number: int
    kind: EntryKind
    body: Mapping[str, Any]
    at_ms: int
    received_ms: int
    by: str
    outcome: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """An entry on its way in. `seen` is the number of the newest entry of this kind that the phone knew; 0 for none."""

    id: str
    device: str
    kind: EntryKind
    at_ms: int
    body: Mapping[str, Any] = field(default_factory=dict)
    seen: int = 0
    outcome: Mapping[str, Any] = field(default_factory=dict)
    file: Content | None = None


async def in_test(db: BaseDBAsyncClient, devices: list[str] | None = None) -> dict[str, InTest]:
    """Devices whose test mode nobody has ended, by name: whether its time is up is for the reader's clock to say."""
    rows = InTestRow.filter(ended_ms=None) if devices is None else InTestRow.filter(ended_ms=None, device_id__in=devices)
    found = await rows.using_db(db).values_list("device_id", "started_ms", "until_ms", "by")
    return {str(device): InTest(*rest) for device, *rest in found}


class Commissioning:
    """The registry's part of commissioning. All methods raise StoreError when the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def start_test(self, device: str, for_ms: int, by: str) -> InTest:
        """Put a device into test mode from now on, in place of a test mode that it is in.

        Raises:
            Refused: `unknown_device`, `not_testable` for one that is suspended or retired, `too_long`.
        """
        if not 0 < for_ms <= LONGEST_TEST_MS:
            raise Refused("too_long", f"a test mode lasts 1 to {LONGEST_TEST_MS // MINUTE_MS} minutes")
        async with self._database.writing() as work:
            row = await _device(work, device)
            if row.state not in TESTABLE:
                raise Refused("not_testable", f"{device!r} is {row.state}")
            values = {"started_ms": work.now_ms, "until_ms": work.now_ms + for_ms, "by": by, "ended_ms": None}
            if not await InTestRow.filter(device_id=device).using_db(work.db).update(**values):
                await InTestRow.create(using_db=work.db, device_id=device, **values)
            work.note(by, "test_mode.start", device, until_ms=work.now_ms + for_ms)
            work.changed("test_mode", device)
            return InTest(work.now_ms, work.now_ms + for_ms, by)

    @whole
    async def end_test(self, device: str, by: str) -> bool:
        """Take a device out of test mode; False when it is in none."""
        async with self._database.writing() as work:
            if not await InTestRow.filter(device_id=device, ended_ms=None).using_db(work.db).update(ended_ms=work.now_ms):
                return False
            work.note(by, "test_mode.end", device)
            work.changed("test_mode", device)
            return True

    @whole
    async def end_overdue(self) -> list[str]:
        """Write down which test modes are over because their time is up; the devices."""
        now_ms = self._database.now_ms()
        async with self._database.reading() as db:
            if not await InTestRow.filter(ended_ms=None, until_ms__lte=now_ms).using_db(db).exists():
                return []
        async with self._database.writing() as work:
            rows = await InTestRow.filter(ended_ms=None, until_ms__lte=work.now_ms).using_db(work.db).order_by("device_id")
            for row in rows:
                await InTestRow.filter(device_id=row.device_id).using_db(work.db).update(ended_ms=row.until_ms)
                work.note(OVER, "test_mode.end", row.device_id)
                work.changed("test_mode", row.device_id)
            return [row.device_id for row in rows]

    @whole
    async def record_test(self, tested: LastTest, timeline: Mapping[str, float], incident: str = "") -> bool:
        """Keep a device's test alarm as its last one; False when a later one is known, or this very one.

        `timeline` (ms UTC by name of the moment) goes into the audit, and the `incident` that an unmarked one opened or joined.
        """
        async with self._database.writing() as work:
            await _device(work, tested.device)
            known = await DeviceTestRow.get_or_none(device_id=tested.device, using_db=work.db)
            if known is not None and known.at_ms >= tested.at_ms:
                return False
            values = {"at_ms": tested.at_ms, "latency_ms": tested.latency_ms, "by": tested.by}
            if known is None:
                await DeviceTestRow.create(using_db=work.db, device_id=tested.device, **values)
            else:
                await DeviceTestRow.filter(device_id=tested.device).using_db(work.db).update(**values)
            work.note(tested.by, "device.test", tested.device, latency_ms=tested.latency_ms, incident=incident, **timeline)
            work.changed("device_test", tested.device)
            return True

    async def last_tests(self, device: str = "") -> dict[str, LastTest]:
        """The last test of each device that had one, or of one device."""
        async with self._database.reading() as db:
            rows = DeviceTestRow.filter(device_id=device) if device else DeviceTestRow.all()
            return {row.device_id: LastTest(row.device_id, row.at_ms, row.latency_ms, row.by) for row in await rows.using_db(db)}

    async def test_mode(self, device: str) -> InTest | None:
        """The test mode that a device is in now."""
        async with self._database.reading() as db:
            found = (await in_test(db, [device])).get(device)
        return found if found is not None and found.covers(self._database.now_ms()) else None

    async def entries(self, device: str) -> list[Entry]:
        """What technicians told of a device, oldest first."""
        async with self._database.reading() as db:
            return [_entry(row) for row in await EntryRow.filter(device_id=device).using_db(db).order_by("number")]

    async def unit_since(self, device: str) -> int:
        """Since when the piece of hardware that is there now is there; 0 where none was ever replaced."""
        async with self._database.reading() as db:
            row = await UnitRow.filter(device_id=device, to_ms=None).using_db(db).order_by("-from_ms").first()
        return row.from_ms if row is not None else 0

    @whole
    async def add(self, told: Told, by: str) -> tuple[Entry, bool]:
        """Keep an entry; the entry, and whether it is new. Told again, it is the one that is there.

        Raises:
            Refused: `unknown_device`, `bad_entry`, `too_many` (entries or files), `taken` for a name that another entry has,
                `conflict` when the phone did not know of a newer entry of which only one counts.
        """
        async with self._database.writing() as work:
            return await add(work, told, by)


async def add(work: Writing, told: Told, by: str) -> tuple[Entry, bool]:
    """`Commissioning.add` inside the caller's transaction."""
    body = canonical(dict(told.body))
    if told.kind not in get_args(EntryKind) or not 0 < len(told.id) <= ID_LENGTH or len(body) > BODY_LENGTH:
        raise Refused("bad_entry", "its kind is unknown, its name is empty, or it is too long")
    await _device(work, told.device)
    same = await EntryRow.get_or_none(id=told.id, using_db=work.db)
    if same is not None:
        if (same.device_id, same.kind, same.body) != (told.device, told.kind, body):
            raise Refused("taken", f"another entry is called {told.id!r}")
        return _entry(same), False
    known = await EntryRow.filter(device_id=told.device).using_db(work.db).order_by("number")
    if len(known) >= ENTRIES_LIMIT:
        raise Refused("too_many", f"{told.device!r} has {len(known)} entries already")
    newest = next((row for row in reversed(known) if row.kind == told.kind), None)
    if told.kind in ONE_COUNTS and newest is not None and newest.number != told.seen:
        raise Refused("conflict", f"{newest.by} told {told.kind} {newest.number} in the meantime")
    row = await EntryRow.create(
        using_db=work.db,
        id=told.id,
        device_id=told.device,
        number=known[-1].number + 1 if known else 1,
        kind=told.kind,
        body=body,
        at_ms=told.at_ms,
        received_ms=work.now_ms,
        by=by,
        outcome=canonical(dict(told.outcome)),
        file=told.file.sha256 if told.file else "",
    )
    if told.file is not None:
        await attachments.add(work, Subject("device", told.device), told.file, by)
    work.note(by, f"commissioning.{told.kind}", told.device, entry=told.id, phone_ms=told.at_ms, file=row.file)
    work.changed("commissioning", told.device)
    return _entry(row), True


async def _device(work: Writing, device: str) -> DeviceRow:
    row = await DeviceRow.get_or_none(id=device, using_db=work.db)
    if row is None:
        raise Refused("unknown_device", f"{device!r} is not registered")
    return row


def _entry(row: EntryRow) -> Entry:
    kind: Any = row.kind
    body, outcome = json.loads(row.body), json.loads(row.outcome)
    return Entry(row.id, row.device_id, row.number, kind, body, row.at_ms, row.received_ms, row.by, outcome, row.file)
