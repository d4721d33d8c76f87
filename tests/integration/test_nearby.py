"""What the air near a fire is like: an update, after the alarm, from what the telemetry process keeps; nothing waits for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from iotcore.app.nearby import Nearby
from iotcore.clock import ManualClock
from iotcore.journal.facts import Near
from iotcore.journal.journal import Journal
from iotcore.journal.records import Batch, Notice
from iotcore.reading import Quality, Reading, Value
from iotcore.registry.directory import Binding, Directory
from iotcore.telemetry.embedded import TelemetryFile
from iotcore.telemetry.panel import Panel
from tests.support.fire import NOON_MS, notice, raise_
from tests.support.shipped import SPECS

HOUR_MS = 3_600_000.0
STATIONS = ("air-2", "air-1")
CITY = Directory({one: Binding(one, one, SPECS["vaisala-aqt530"], "air", one, "active") for one in STATIONS})


async def measured(folder: Path, clock: ManualClock) -> None:
    """The telemetry process's file: two stations, one value each that is good and of now."""
    async with TelemetryFile(folder / "telemetry.db") as file:
        panel = Panel(file, clock)
        for device, at_ms, values in (
            ("air-1", NOON_MS, (Value("pm25", 18.4), Value("no2", None, Quality.BAD, "timeout"))),
            ("air-2", NOON_MS, (Value("pm25", 81.5), Value("mode", "x"))),
            ("air-2", NOON_MS - 2 * HOUR_MS, (Value("no2", 7.0),)),
        ):
            panel.readings([Reading(device, "b", 1, "reading", at_ms, at_ms, values)])
        await panel.write()


def burning(folder: Path, clock: ManualClock, channels: tuple[str, ...] = ("arc", "cad")) -> tuple[Journal, Notice]:
    journal = Journal(folder / "journal.db", clock, list(channels), "test")
    around = msgspec.structs.replace(notice(), stations=(Near("air-2", "Gần", 300), Near("air-1", "Xa", 900)))
    committed = journal.commit(Batch(raises=(raise_(of=around),)))
    return journal, committed.leased[0].notice


def posted(journal: Journal) -> list[tuple[str, str, list[tuple[str, str, float, str]]]]:
    rows = journal.connection.execute("SELECT channel, event, notice FROM outbox ORDER BY id").fetchall()
    told = [(channel, event, msgspec.json.decode(text, type=Notice)) for channel, event, text in rows]
    return [(channel, event, [(a.device, a.point, a.value, a.unit) for a in one.air]) for channel, event, one in told]


async def test_the_last_good_values_follow_the_alarm_to_those_that_read_them(tmp_path: Path) -> None:
    clock = ManualClock(now_ms=NOON_MS)
    await measured(tmp_path, clock)
    journal, told = burning(tmp_path, clock)
    nearby = Nearby(tmp_path, journal, lambda: CITY, ["cad"], clock)
    assert nearby.tell(told)
    unit = SPECS["vaisala-aqt530"].points["pm25"].unit
    assert posted(journal) == [
        ("arc", "alarm", []),
        ("cad", "alarm", []),
        ("cad", "update", [("air-2", "pm25", 81.5, unit), ("air-1", "pm25", 18.4, unit)]),  # the nearest first
    ]
    journal.close()


async def test_without_the_file_or_with_garbage_in_it_there_is_no_update_and_no_error(tmp_path: Path) -> None:
    clock = ManualClock(now_ms=NOON_MS)
    journal, told = burning(tmp_path, clock)
    nearby = Nearby(tmp_path, journal, lambda: CITY, ["cad"], clock)
    assert not nearby.tell(told)
    (tmp_path / "telemetry.db").write_bytes(b"garbage, and much of it" * 100)
    assert not nearby.tell(told)
    assert [event for _, event, _ in posted(journal)] == ["alarm", "alarm"]
    journal.close()


@pytest.mark.parametrize("told_to", [[], ["cad"]])
async def test_what_waits_is_bounded_and_each_incident_waits_once(tmp_path: Path, told_to: list[str]) -> None:
    clock = ManualClock(now_ms=NOON_MS)
    await measured(tmp_path, clock)
    journal, told = burning(tmp_path, clock)
    nearby = Nearby(tmp_path, journal, lambda: CITY, told_to, clock)
    nearby.add([told, told])
    nearby.add([told])
    nearby.add(msgspec.structs.replace(told, incident=f"F{i}") for i in range(1_000))
    assert nearby.dropped == (1 if told_to else 0)
    running = asyncio.create_task(nearby.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running})
    journal.close()
