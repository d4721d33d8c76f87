"""The gateway's outbox: kept until receipted, over restarts, bounded, with honest ages."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import msgspec
import pytest

from drivers.outbox import Limits, Outbox, Row, held_back
from drivers.outbox.file import ROW_BYTES
from iotcore.clock import ManualClock
from iotcore.errors import StoreError
from iotcore.wire.messages import ReadingMessage, ReceiptMessage


def _receipt(boot: str, up_to: int) -> ReceiptMessage:
    return ReceiptMessage(boot=boot, up_to=up_to, ts=0)


async def _one_row(path: Path) -> Row:
    async with Outbox(path, ManualClock()) as outbox:
        return await outbox.put("air", "a", {})


async def _identities(outbox: Outbox) -> list[tuple[str, str, int]]:
    return [(row.device, row.boot, row.seq) for row in await outbox.page(0, 1000)]


async def test_numbers_count_up_from_one_for_each_device(tmp_path: Path) -> None:
    async with Outbox(tmp_path / "o.db", ManualClock()) as outbox:
        rows = [await outbox.put("air", device, {"pm10": 1.0}) for device in ("a", "b", "a", "a")]
    assert [(row.device, row.seq) for row in rows] == [("a", 1), ("b", 1), ("a", 2), ("a", 3)]


async def test_concurrent_puts_share_commits_and_lose_no_number(tmp_path: Path) -> None:
    commits: list[int] = []
    async with Outbox(tmp_path / "o.db", ManualClock()) as outbox:
        outbox.kept = lambda rows: commits.append(len(rows))
        rows = await asyncio.gather(*(outbox.put("air", f"d{i % 10}", {"pm10": 1.0}) for i in range(2000)))
        assert outbox.rows == 2000
    assert {(row.device, row.seq) for row in rows} == {(f"d{d}", n) for d in range(10) for n in range(1, 201)}
    assert sum(commits) == 2000
    assert len(commits) < 200


async def test_a_row_is_on_disk_when_put_returns(tmp_path: Path) -> None:
    async with Outbox(tmp_path / "o.db", ManualClock()) as outbox:
        row = await outbox.put("air", "a", {"pm10": 1.0}, {"pm10": "uncertain:warm_up"}, 1_795_312_800_123)
        for name in ("o.db", "o.db-wal"):  # what a crash would leave behind
            shutil.copy(tmp_path / name, tmp_path / f"crashed-{name}")
    async with Outbox(tmp_path / "crashed-o.db", ManualClock()) as survived:
        assert await _identities(survived) == [("a", row.boot, 1)]
        kept = msgspec.json.decode((await survived.page(0, 1))[0].body, type=ReadingMessage)
    assert (kept.values, kept.q, kept.ts) == ({"pm10": 1.0}, {"pm10": "uncertain:warm_up"}, 1_795_312_800_123)


async def test_a_restart_has_a_new_boot_and_keeps_the_rows_of_the_old_one(tmp_path: Path) -> None:
    async with Outbox(tmp_path / "o.db", ManualClock()) as first:
        await first.put("air", "a", {"pm10": 1.0})
    async with Outbox(tmp_path / "o.db", ManualClock()) as second:
        assert second.boot != first.boot
        await second.put("air", "a", {"pm10": 2.0})
        assert await _identities(second) == [("a", first.boot, 1), ("a", second.boot, 1)]


async def test_a_receipt_forgets_its_device_and_boot_up_to_its_number_only(tmp_path: Path) -> None:
    async with Outbox(tmp_path / "o.db", ManualClock()) as first:
        await first.put("air", "a", {"pm10": 1.0})
    async with Outbox(tmp_path / "o.db", ManualClock()) as outbox:
        for _ in range(3):
            await outbox.put("air", "a", {"pm10": 1.0})
            await outbox.put("air", "b", {"pm10": 1.0})
        outbox.receipt("a", _receipt(outbox.boot, 2))
        await outbox.put("air", "c", {})  # commits the receipt with it
        here = outbox.boot
        assert await _identities(outbox) == [
            ("a", first.boot, 1),
            ("b", here, 1),
            ("b", here, 2),
            ("a", here, 3),
            ("b", here, 3),
            ("c", here, 1),
        ]
        assert (outbox.receipted, outbox.rows) == (2, 6)


async def test_a_receipt_for_numbers_not_yet_given_does_not_swallow_later_readings(tmp_path: Path) -> None:
    async with Outbox(tmp_path / "o.db", ManualClock()) as outbox:
        await outbox.put("air", "a", {})
        outbox.receipt("a", _receipt(outbox.boot, 2**53))
        await outbox.put("air", "a", {})
        assert await _identities(outbox) == [("a", outbox.boot, 2)]


async def test_a_full_outbox_drops_its_oldest_rows_and_counts_them_over_restarts(tmp_path: Path) -> None:
    size = len((await _one_row(tmp_path / "size.db")).body) + ROW_BYTES
    limits = Limits(max_bytes=3 * size)
    async with Outbox(tmp_path / "o.db", ManualClock(), limits=limits) as outbox:
        for _ in range(5):
            await outbox.put("air", "a", {})
        assert [seq for _, _, seq in await _identities(outbox)] == [3, 4, 5]
        assert (outbox.evicted, outbox.rows) == (2, 3)
    async with Outbox(tmp_path / "o.db", ManualClock(), limits=limits) as again:
        assert (again.evicted, again.rows) == (2, 3)


async def test_age_is_monotonic_within_a_run_whatever_the_wall_clock_does(tmp_path: Path) -> None:
    clock = ManualClock()
    async with Outbox(tmp_path / "o.db", clock) as outbox:
        row = await outbox.put("air", "a", {})
        clock.advance(12.5)
        clock.now_ms -= 86_400_000.0
        assert outbox.age_ms(row) == 12_500


async def test_age_over_a_restart_is_the_wall_clocks_difference_then_monotonic(tmp_path: Path) -> None:
    before = ManualClock()
    async with Outbox(tmp_path / "o.db", before) as outbox:
        await outbox.put("air", "a", {})
    after = ManualClock(now_ms=before.now_ms + 60_000.0, elapsed_s=3.0)
    async with Outbox(tmp_path / "o.db", after) as outbox:
        after.advance(5.0)
        after.now_ms -= 1e9
        assert outbox.age_ms((await outbox.page(0, 1))[0]) == 65_000


async def test_a_wall_clock_set_back_over_a_restart_never_makes_a_row_younger_than_it_was(tmp_path: Path) -> None:
    before = ManualClock()
    async with Outbox(tmp_path / "o.db", before) as outbox:
        await outbox.put("air", "a", {})
        before.advance(600.0)
        await outbox.put("air", "a", {})
    async with Outbox(tmp_path / "o.db", ManualClock(now_ms=0.0)) as outbox:
        assert [outbox.age_ms(row) for row in await outbox.page(0, 2)] == [600_000, 0]


async def test_a_held_back_message_is_marked_and_otherwise_the_same(tmp_path: Path) -> None:
    async with Outbox(tmp_path / "o.db", ManualClock()) as outbox:
        row = await outbox.put("fire", "a", {"smoke": 0.5, "alarm": True}, test=True, ts=7)
    live = msgspec.json.decode(row.body, type=ReadingMessage)
    late = msgspec.json.decode(held_back(row, 31_000), type=ReadingMessage)
    assert not live.backlog
    assert late == msgspec.structs.replace(live, backlog=True, age_ms=31_000)


async def test_one_file_has_one_owner(tmp_path: Path) -> None:
    async with Outbox(tmp_path / "o.db", ManualClock()):
        with pytest.raises(StoreError, match="another process"):
            async with Outbox(tmp_path / "o.db", ManualClock()):
                pass


async def test_a_failed_commit_uses_no_number_and_is_told_to_the_caller(tmp_path: Path) -> None:
    async with Outbox(tmp_path / "o.db", ManualClock()) as outbox:
        await outbox.put("air", "a", {})
        db = outbox._file._db
        pages = await outbox._on_thread(lambda: db.execute("PRAGMA page_count").fetchone()[0])
        await outbox._on_thread(lambda: db.execute(f"PRAGMA max_page_count={pages}").fetchone())  # a disk that is full
        with pytest.raises(StoreError, match="full"):
            await outbox.put("air", "a", {"text": "x" * 20_000})
        await outbox._on_thread(lambda: db.execute(f"PRAGMA max_page_count={pages + 100}").fetchone())
        row = await outbox.put("air", "a", {})
    assert (row.seq, outbox.failed) == (2, 1)


async def test_what_was_put_before_closing_is_committed(tmp_path: Path) -> None:
    async with Outbox(tmp_path / "o.db", ManualClock()) as outbox:
        putting = [asyncio.create_task(outbox.put("air", "a", {})) for _ in range(50)]
        await asyncio.sleep(0)
    rows: list[Row] = await asyncio.gather(*putting)
    assert [row.seq for row in rows] == list(range(1, 51))
