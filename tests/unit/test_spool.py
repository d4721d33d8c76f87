"""The spool: durable before it returns, bounded, and honest about what it had to give up."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from iotcore.clock import ManualClock
from iotcore.errors import StartError, StoreFull
from iotcore.journal.progress import Progress, Row
from iotcore.telemetry.spool import Spool
from iotcore.wire.arrival import Refusal

REFUSAL = Refusal("schema", "values is missing", "iot/v1/air/a1/up/reading/a1", "a1", b"{}")


def opened(path: Path, clock: ManualClock, *, max_bytes: int = 1_000_000, max_age_s: float = 3600.0, form: str = "line") -> Spool:
    return Spool(path / "spool-t.db", clock, store_format=form, max_bytes=max_bytes, max_age_s=max_age_s)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def spool(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Spool]:
    async with opened(tmp_path, clock) as one:
        yield one


async def test_a_batch_stays_until_the_store_has_taken_it(spool: Spool) -> None:
    await spool.commit([b"a", b"b"])
    (batch,) = await spool.newest(100)
    assert (batch.lines, batch.line_count) == (b"a\nb", 2)
    await spool.done([batch.id])
    assert await spool.newest(100) == []


async def test_what_was_committed_survives_without_a_close(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as first:
        await first.commit([b"a"], [Row("d", "b", 3, "[5]", 0)], [REFUSAL])
        async with opened(tmp_path, clock) as second:  # the first still holds the file, as a killed process's log would
            assert [batch.lines for batch in await second.newest(100)] == [b"a"]
            assert Progress(await second.progress()).track("d", "b").above == ((5, 5),)
            assert (await second.depth()).size == 1


async def test_newest_comes_first_and_oldest_when_asked(spool: Spool) -> None:
    for name in (b"1", b"2", b"3"):
        await spool.commit([name])
    assert [batch.lines for batch in await spool.newest(2)] == [b"3", b"2"]
    assert [batch.lines for batch in await spool.oldest(2)] == [b"1", b"2"]


async def test_batches_in_flight_are_not_handed_out_twice(spool: Spool) -> None:
    for name in (b"1", b"2"):
        await spool.commit([name])
    taken = {batch.id for batch in await spool.newest(1)}
    assert [batch.lines for batch in await spool.newest(9, taken)] == [b"1"]


async def test_a_batch_larger_than_the_limit_is_still_handed_out(spool: Spool) -> None:
    await spool.commit([b"x"] * 50)
    await spool.commit([b"y"])
    assert [batch.line_count for batch in await spool.newest(10)] == [1]
    assert [batch.line_count for batch in await spool.oldest(10)] == [50]


async def test_a_full_spool_gives_up_the_oldest_and_says_how_much(tmp_path: Path, clock: ManualClock) -> None:
    start = clock.wall_ms()
    async with opened(tmp_path, clock, max_bytes=100) as spool:
        for number in range(20):
            await spool.commit([b"%09d" % number] * 2)  # 19 bytes each
            clock.advance(1.0)
        kept = [batch.lines[:9] for batch in await spool.oldest(1000)]
        assert kept == [b"%09d" % number for number in range(15, 20)]
        (gap,) = await spool.gaps()
        assert (gap.reason, gap.batches, gap.line_count, gap.size) == ("full", 15, 30, 15 * 19)
        assert (gap.from_ms, gap.to_ms) == (start, start + 14_000.0)
        assert (await spool.depth()).size == 5 * 19


async def test_lines_that_are_too_old_are_given_up_and_counted(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock, max_age_s=60.0) as spool:
        await spool.commit([b"old"])
        clock.advance(61.0)
        await spool.commit([b"new"])
        assert [batch.lines for batch in await spool.oldest(10)] == [b"new"]
        assert [(gap.reason, gap.line_count) for gap in await spool.gaps()] == [("age", 1)]


async def test_done_on_a_batch_that_was_given_up_changes_nothing(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock, max_bytes=10) as spool:
        await spool.commit([b"12345678"])
        (flying,) = await spool.newest(1)
        await spool.commit([b"abcdefgh"])
        await spool.done([flying.id])
        assert [batch.lines for batch in await spool.newest(1)] == [b"abcdefgh"]
        assert (await spool.depth()).size == 8


async def test_refused_lines_are_quarantined_with_the_batch_they_came_from(spool: Spool, tmp_path: Path) -> None:
    await spool.commit([b"a"], refusals=[REFUSAL])
    (batch,) = await spool.newest(1)
    await spool.done([batch.id], [Refusal("store_rejected", "field type conflict", "", "a1", b"a")])
    with closing(sqlite3.connect(tmp_path / "spool-t.db")) as reader:
        assert reader.execute("SELECT reason, count FROM quarantine_count ORDER BY reason").fetchall() == [
            ("schema", 1),
            ("store_rejected", 1),
        ]
    reader.close()


async def test_lines_of_another_kind_of_store_are_kept_apart(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock, form="row") as embedded:
        await embedded.commit([b"[]"])
    async with opened(tmp_path, clock) as influx:
        assert await influx.newest(10) == []
        assert (await influx.depth()).foreign == 1


async def test_a_full_disk_raises_and_the_same_commit_succeeds_once_there_is_room(spool: Spool) -> None:
    connection = spool._connection
    assert connection is not None
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 8}")
    body = [os.urandom(4096).hex().encode()]
    stored = 0
    with pytest.raises(StoreFull):  # noqa: PT012 - it fills up somewhere in here
        for stored in range(100):
            await spool.commit(body, [Row("d", "b", stored + 1, "[]", 0)])
    assert (await spool.depth()).batches == stored
    assert Progress(await spool.progress()).track("d", "b").up_to == stored  # nothing of the failed commit was kept
    await spool.done([batch.id for batch in await spool.oldest(1)])  # the store takes one: there is room again
    await spool.commit(body, [Row("d", "b", stored + 1, "[]", 0)])
    assert Progress(await spool.progress()).track("d", "b").up_to == stored + 1


async def test_a_folder_that_cannot_be_written_is_named_at_start(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"spool-t\.db"):
        async with opened(tmp_path / "file", clock):
            pass
