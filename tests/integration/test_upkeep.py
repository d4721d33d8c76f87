"""telemetry.db is kept up while it is written: rollups, retention, and readers that never wait."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from iotcore.clock import ManualClock, SystemClock
from iotcore.reading import Quality, Reading, Value
from iotcore.registry.directory import Binding, Directory
from iotcore.settings import Settings, Store
from iotcore.telemetry.embedded import EmbeddedStore, TelemetryFile
from iotcore.telemetry.query import Query, open_query
from iotcore.telemetry.rollup import expected, joined, of_samples
from iotcore.telemetry.upkeep import Upkeep
from tests.support.shipped import SPECS

START_MS = 1_795_312_800_000  # a whole hour
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
SMOKE = Binding("smoke-1", "", SPECS["iotcore-smoke-heat"], "fire", "smoke-1", "active")
DIRECTORY = Directory({"smoke-1": SMOKE})
KEEP = Store(retention_days=2, retention_1m_days=5, retention_1h_days=0)


class Ticking(ManualClock):
    """Every look at it takes 6 ms."""

    def monotonic_s(self) -> float:
        self.elapsed_s += 0.006
        return self.elapsed_s


@dataclass
class Kept:
    """A file, its writer and its keeper; `again` is the process after a restart."""

    file: TelemetryFile
    clock: ManualClock
    query: Query
    store: EmbeddedStore
    upkeep: Upkeep

    def again(self, writer: int = 1) -> None:
        self.store = EmbeddedStore(self.file)
        self.upkeep = Upkeep(self.store, KEEP, self.clock, lambda: DIRECTORY, writer=writer)

    async def write(self, *samples: tuple[float, float], quality: Quality = Quality.GOOD, test: bool = False) -> None:
        """(after START_MS, value)."""
        body = [
            self.store.record(
                Reading("smoke-1", "b", 1, "reading", START_MS + at, START_MS + at, (Value("smoke", value, quality),), test=test),
                SMOKE,
            )
            for at, value in samples
        ]
        await self.store.write(b"\n".join(body), len(body))

    async def rolled(self, table: str) -> list[tuple[int, int, float]]:
        return await self.file.in_transaction(
            lambda connection: connection.execute(f"SELECT start_ms - {START_MS}, n, mean FROM {table} ORDER BY 1").fetchall()
        )

    async def count(self, table: str) -> int:
        (found,) = await self.file.in_transaction(
            lambda connection: connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        )
        return int(found)


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    clock = ManualClock()
    async with (
        TelemetryFile(tmp_path / "telemetry.db") as file,
        open_query(Settings(data=str(tmp_path)), clock) as query,
    ):
        store = EmbeddedStore(file)
        yield Kept(file, clock, query, store, Upkeep(store, KEEP, clock, lambda: DIRECTORY))


async def test_a_minute_is_rolled_up_when_it_is_over_and_an_hour_when_it_is(kept: Kept) -> None:
    await kept.write((0, 1.0), (30_000, 3.0), (60_000, 9.0))
    kept.clock.now_ms = START_MS + 69_000.0
    await kept.upkeep.roll()
    assert await kept.rolled("rollup_1m") == []
    kept.clock.now_ms = START_MS + 70_000.0
    await kept.upkeep.roll()
    assert await kept.rolled("rollup_1m") == [(0, 2, 2.0)]
    assert await kept.rolled("rollup_1h") == []
    kept.clock.now_ms = START_MS + HOUR + 10_000.0
    await kept.upkeep.roll()
    assert await kept.rolled("rollup_1m") == [(0, 2, 2.0), (MINUTE, 1, 9.0)]
    assert [(at, n, round(mean, 9)) for at, n, mean in await kept.rolled("rollup_1h")] == [(0, 3, round(13 / 3, 9))]


async def test_sql_and_arithmetic_agree(kept: Kept) -> None:
    samples = [(at * 7_000.0, float(at * at % 17)) for at in range(400)]
    await kept.write(*samples)
    await kept.write((1.0, 5.0), (MINUTE + 1.0, 5.0), quality=Quality.UNCERTAIN)
    await kept.write((2.0, 999.0), quality=Quality.BAD)
    await kept.write((3.0, 777.0), test=True)
    stored = await kept.query.samples("smoke-1", "smoke", START_MS, START_MS + HOUR, 1000)
    kept.clock.now_ms = START_MS + HOUR + 10_000.0
    await kept.upkeep.roll()
    for width in (MINUTE, HOUR):
        buckets = [of_samples(stored, at, width, expected(width, 10.0)) for at in range(START_MS, START_MS + HOUR, width)]
        found = await kept.query.intervals(["smoke-1"], "smoke", START_MS, START_MS + HOUR, width)
        assert [pytest.approx(one) for one in joined("smoke-1", [b for b in buckets if b], width)] == found
    (bad,) = await kept.file.in_transaction(lambda connection: connection.execute("SELECT sum(bad) FROM rollup_1h").fetchone())
    assert bad == 1


async def test_a_process_that_was_killed_catches_up_and_knows_what_was_late(kept: Kept) -> None:
    await kept.write((0, 1.0))
    kept.clock.now_ms = START_MS + 2 * HOUR + 10_000.0
    await kept.upkeep.roll()
    await kept.write((30_000, 3.0), (2 * HOUR + 1, 5.0))  # one late, one of a minute that is not over; then kill -9
    kept.again()
    kept.clock.now_ms = START_MS + 3 * HOUR + 10_000.0
    await kept.upkeep.roll()
    assert await kept.rolled("rollup_1h") == [(0, 2, 2.0), (2 * HOUR, 1, 5.0)]
    assert await kept.count("late") == 0


async def test_values_of_a_minute_to_come_are_rolled_up_in_their_time(kept: Kept) -> None:
    await kept.write((5 * MINUTE, 7.0))  # its clock is ahead
    for minute in (1, 2, 7):
        kept.clock.now_ms = START_MS + minute * MINUTE
        await kept.upkeep.roll()
    assert await kept.rolled("rollup_1m") == [(5 * MINUTE, 1, 7.0)]


async def test_two_processes_that_write_one_file_each_roll_up_what_they_wrote(kept: Kept) -> None:
    first_store, first = kept.store, kept.upkeep
    kept.clock.now_ms = START_MS + 0.0
    await first.roll()
    kept.again(writer=2)
    await kept.upkeep.roll()
    await kept.write((0, 1.0))
    kept.clock.now_ms = START_MS + 2 * MINUTE
    await first.roll()  # it wrote nothing, and is first
    await kept.upkeep.roll()
    await kept.write((1000, 3.0))  # late for both, noted by the second
    await first.roll()
    assert await kept.count("late") == 1
    await kept.upkeep.roll()
    assert await kept.rolled("rollup_1m") == [(0, 2, 2.0)]
    assert first_store is not kept.store


async def test_rows_are_deleted_when_they_are_older_than_their_table_keeps_and_rollups_stay(kept: Kept) -> None:
    await kept.write(*((hour * HOUR, float(hour)) for hour in range(0, 24 * 8, 2)))
    kept.clock.now_ms = START_MS + 8.0 * DAY + 10_000.0
    await kept.upkeep.roll()
    await kept.upkeep.sweep()
    assert [await kept.count(table) for table in ("value", "rollup_1m", "rollup_1h")] == [23, 59, 96]
    (first, *_) = await kept.query.samples("smoke-1", "smoke", 0.0, 2e12, 1000)
    assert first.at_ms == START_MS + 6 * DAY + 2 * HOUR
    found = await kept.query.intervals(["smoke-1"], "smoke", START_MS, START_MS + 8 * DAY, DAY)
    assert [one.values for one in found][1:8] == [12] * 7  # by the hour nothing is lost


async def test_a_value_later_than_is_kept_does_not_spoil_the_rollup_of_its_hour(kept: Kept) -> None:
    await kept.write((0, 1.0), (MINUTE, 3.0))
    kept.clock.now_ms = START_MS + 3.0 * DAY
    await kept.upkeep.roll()
    await kept.upkeep.sweep()
    await kept.write((2 * MINUTE, 500.0))
    await kept.upkeep.roll()
    assert await kept.rolled("rollup_1h") == [(0, 2, 2.0)]
    assert await kept.count("late") == 0


async def test_a_file_whose_old_rows_are_deleted_does_not_grow(kept: Kept) -> None:
    rows = 2_000  # of a day

    async def day(number: int) -> int:
        step = DAY / rows
        await kept.write(*((number * DAY + at * step, float(at)) for at in range(rows)))
        kept.clock.now_ms = START_MS + (number + 1.0) * DAY
        await kept.upkeep.roll()
        await kept.upkeep.sweep()
        (pages,) = await kept.file.in_transaction(lambda connection: connection.execute("PRAGMA page_count").fetchone())
        return int(pages)

    sizes = [await day(number) for number in range(12)]
    # Hours are kept for ever: what they add is little. The minutes and values are as many on day 7 as on day 12.
    assert sizes[-1] <= sizes[6] * 1.1


async def test_retention_is_cut_into_short_transactions(kept: Kept) -> None:
    await kept.write(*((at * 1000.0, 1.0) for at in range(12_000)))
    kept.upkeep = Upkeep(kept.store, KEEP, Ticking(START_MS + 10.0 * DAY), lambda: DIRECTORY)
    sweeping = asyncio.create_task(kept.upkeep.sweep())
    seen = set()
    while not sweeping.done():
        seen.add(await kept.count("value"))  # waits for its turn between two of them
    await sweeping
    assert await kept.count("value") == 0
    assert len(seen) > 3


async def test_a_reader_gets_whole_answers_while_another_process_writes_at_full_speed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.telemetry_writer", str(tmp_path / "telemetry.db")]
    writer = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert writer.stdout is not None
    try:
        assert await asyncio.wait_for(writer.stdout.readline(), 30.0) == b"writing\n"
        async with open_query(Settings(data=str(tmp_path)), SystemClock()) as query:
            seen: list[int] = []
            end = asyncio.get_running_loop().time() + 1.5
            while asyncio.get_running_loop().time() < end:
                samples = await query.samples("smoke-1", "smoke", 0.0, 2e12, 600)
                assert len({one.value for one in samples}) == len(samples)
                assert len(samples) in {500, 600}  # whole batches
                newest = await query.latest("smoke-1", "temperature")
                assert newest is not None
                assert newest.at_ms >= samples[-1].at_ms
                minutes = await query.intervals(["smoke-1"], "smoke", START_MS, START_MS + 600 * MINUTE, MINUTE)
                seen.append(sum(one.values for one in minutes))
            assert seen == sorted(seen)
            assert all(count % 500 == 0 for count in seen)
            assert len(set(seen)) > 2
    finally:
        writer.kill()
        await writer.communicate()
