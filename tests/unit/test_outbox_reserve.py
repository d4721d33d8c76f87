"""The reserve of the fire outbox: on a full disk fires still go, are kept, and keep their numbers."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from drivers.outbox import Limits, Outbox, Row
from drivers.outbox.reserve_log import MEMORY_ROWS, ReserveLog
from drivers.outbox.rows import BEGIN
from iotcore.clock import ManualClock
from iotcore.errors import StoreFull
from iotcore.two_areas import HEADER_BYTES
from iotcore.wire.messages import ReadingMessage, ReceiptMessage

AREA = 64 * 1024


def _row(seq: int, *, boot: str = "b1", size: int = 100) -> Row:
    return Row(0, "fire", "p1", "reading", boot, seq, 1.0, 2.0, "m1", b"x" * size)


def _log(path: Path, area_bytes: int = AREA) -> ReserveLog:
    log = ReserveLog(path, area_bytes=area_bytes)
    log.open()
    return log


async def _on_db(outbox: Outbox, statement: str) -> int:
    def run() -> int:
        return int((outbox._file._db.execute(statement).fetchone() or (0,))[0])

    return await outbox._on_thread(run)


async def _fill(outbox: Outbox) -> None:
    """From now on the file can take nothing more."""
    pages = await _on_db(outbox, "PRAGMA page_count")
    await _on_db(outbox, f"PRAGMA max_page_count={pages}")


async def _room(outbox: Outbox) -> None:
    await _on_db(outbox, "PRAGMA max_page_count=100000")


def _fire(path: Path) -> Outbox:
    return Outbox(path, ManualClock(), reserve=True, reserve_bytes=AREA)


def _receipt(outbox: Outbox, up_to: int) -> ReceiptMessage:
    return ReceiptMessage(boot=outbox.boot, up_to=up_to, ts=0)


BIG = {"text": "x" * 20_000}  # needs pages of its own


async def test_a_fire_reading_on_a_full_disk_is_kept_numbered_and_told_like_any_other(tmp_path: Path) -> None:
    told: list[int] = []
    pressed: list[bool] = []
    async with _fire(tmp_path / "o.db") as outbox:
        outbox.kept = lambda rows: told.extend(row.seq for row in rows)
        outbox.pressed = lambda: pressed.append(True)
        await outbox.put("fire", "p1", {})
        await _fill(outbox)
        row = await outbox.put("fire", "p1", BIG)
        assert (row.seq, outbox.in_reserve, outbox.rows, outbox.failed) == (2, 1, 2, 0)
        assert [kept.seq for kept in await outbox.page(BEGIN, 10)] == [2, 1]
        assert [kept.seq for kept in await outbox.page(row.id, 10)] == [1]
    assert told == [1, 2]
    assert pressed == [True]


async def test_the_reserve_survives_a_crash_and_moves_into_the_file_when_there_is_room(tmp_path: Path) -> None:
    async with _fire(tmp_path / "o.db") as outbox:
        await outbox.put("fire", "p1", {})
        await _fill(outbox)
        await outbox.put("fire", "p1", BIG, ts=7)
        for name in ("o.db", "o.db-wal", "o.reserve"):
            shutil.copy(tmp_path / name, tmp_path / f"crashed-{name}")
        boot = outbox.boot
    async with _fire(tmp_path / "crashed-o.db") as again:
        assert again.in_reserve == 1
        await again.put("fire", "p1", {})
        assert again.in_reserve == 0
        rows = await again.page(BEGIN, 10)
    assert [(row.boot, row.seq) for row in rows] == [(boot, 1), (boot, 2), (again.boot, 1)]
    assert msgspec.json.decode(rows[1].body, type=ReadingMessage).ts == 7
    async with _fire(tmp_path / "crashed-o.db") as third:
        assert (third.in_reserve, third.rows) == (0, 3)


async def test_a_receipt_empties_the_reserve_and_only_what_is_not_receipted_comes_back(tmp_path: Path) -> None:
    async with _fire(tmp_path / "o.db") as outbox:
        await _fill(outbox)
        for _ in range(3):
            await outbox.put("fire", "p1", BIG)
        outbox.receipt("p1", _receipt(outbox, 3))
        await outbox.put("fire", "p2", BIG)
        assert (outbox.in_reserve, outbox.receipted) == (1, 3)
    async with _fire(tmp_path / "o.db") as again:
        assert [row.device for row in await again.page(BEGIN, 10)] == ["p2"]


async def test_what_a_failed_commit_left_behind_never_stands_beside_the_reading_of_that_number(tmp_path: Path) -> None:
    """SQLite may call a commit failed that a crash then finds in its log: the same number must not mean two readings."""
    async with _fire(tmp_path / "o.db") as outbox:
        await _fill(outbox)
        row = await outbox.put("fire", "p1", BIG)
        await _room(outbox)
        ghost = row._replace(body=b"{}")
        await outbox._on_thread(lambda: outbox._file.commit([ghost], {}, outbox._now()))
        assert [kept.body for kept in await outbox.page(BEGIN, 10)] == [row.body]
        await outbox.put("fire", "p1", {})
        assert next((kept.seq, len(kept.body)) for kept in await outbox.page(BEGIN, 10)) == (1, len(row.body))
        assert outbox.rows == len(await outbox.page(BEGIN, 10)) == 2


async def test_a_reserve_that_is_full_still_sends_and_says_that_only_memory_has_it(tmp_path: Path) -> None:
    told: list[int] = []
    async with _fire(tmp_path / "o.db") as outbox:
        outbox.kept = lambda rows: told.extend(row.seq for row in rows)
        await _fill(outbox)
        for _ in range(3):
            await outbox.put("fire", "p1", BIG)
        with pytest.raises(StoreFull):
            await outbox.put("fire", "p1", BIG)
        assert told == [1, 2, 3, 4]
        assert outbox.failed == 1
        await _room(outbox)
        assert (await outbox.put("fire", "p1", {})).seq == 5
        assert [row.seq for row in await outbox.page(BEGIN, 10)] == [1, 2, 3, 4, 5]


async def test_bulk_has_no_reserve_and_refuses_on_a_full_disk(tmp_path: Path) -> None:
    async with Outbox(tmp_path / "o.db", ManualClock()) as outbox:
        await _fill(outbox)
        with pytest.raises(StoreFull):
            await outbox.put("air", "a", BIG)
        await _room(outbox)
        assert (await outbox.put("air", "a", {})).seq == 1


async def test_bulk_gives_way_when_the_fire_outbox_finds_the_disk_full(tmp_path: Path) -> None:
    async with Outbox(tmp_path / "bulk.db", ManualClock()) as bulk, _fire(tmp_path / "fire.db") as fire:
        fire.pressed = bulk.make_room
        for _ in range(300):
            await bulk.put("air", "a", BIG)
        before = (tmp_path / "bulk.db").stat().st_size
        await _fill(fire)
        await fire.put("fire", "p1", BIG)
        async with asyncio.timeout(5.0):
            while (tmp_path / "bulk.db").stat().st_size > before - 1_000_000:  # noqa: ASYNC110 - on its own thread
                await asyncio.sleep(0.01)
        assert 150 < bulk.evicted < 300
        assert [row.seq for row in await bulk.page(BEGIN, 1)] == [bulk.evicted + 1]
        assert fire.evicted == 0


def test_records_come_back_in_order_with_everything_they_had(tmp_path: Path) -> None:
    log = _log(tmp_path / "r")
    kept = log.keep([_row(1), _row(2)]) + log.keep([_row(3)])
    log.close()
    again = _log(tmp_path / "r")
    assert again.rows == kept
    assert all(row.id < 0 and again.on_disk(row) for row in again.rows)


@pytest.mark.parametrize("spoil", [lambda b: b[:-1] + b"?", lambda b: b[: len(b) // 2] + bytes(len(b) - len(b) // 2)])
def test_a_record_cut_by_a_power_failure_costs_itself_only(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    log = _log(tmp_path / "r")
    log.keep([_row(1)])
    begin = log._areas._end
    log.keep([_row(2)])
    end = log._areas._end
    log.close()
    content = (tmp_path / "r").read_bytes()
    (tmp_path / "r").write_bytes(content[:begin] + spoil(content[begin:end]) + content[end:])
    assert [row.seq for row in _log(tmp_path / "r").rows] == [1]


def test_a_full_area_goes_over_to_the_other_with_what_is_still_waited_for(tmp_path: Path) -> None:
    log = _log(tmp_path / "r")
    for seq in range(1, 2000):
        (row,) = log.keep([_row(seq)])
        assert log.on_disk(row)
        log.forget("p1", "b1", seq - 3)
    log.close()
    assert [row.seq for row in _log(tmp_path / "r").rows][-3:] == [1997, 1998, 1999]
    assert (tmp_path / "r").stat().st_size == 2 * AREA


def test_a_crash_between_the_records_of_the_other_area_and_its_header_leaves_the_old_one(tmp_path: Path) -> None:
    log = _log(tmp_path / "r")
    log.keep([_row(1), _row(2)])
    areas = log._areas
    assert areas._file is not None
    areas._put(areas._file, areas._generation + 1, HEADER_BYTES, b"half of what was to come")
    log.close()
    assert [row.seq for row in _log(tmp_path / "r").rows] == [1, 2]


def test_what_only_memory_has_is_bounded_and_counted(tmp_path: Path) -> None:
    log = _log(tmp_path / "r", 4096)
    for seq in range(1, MEMORY_ROWS + 11):
        log.keep([_row(seq, size=8000)])
    assert (len(log), log.dropped) == (MEMORY_ROWS, 10)


def test_without_a_folder_to_write_in_there_is_no_reserve_and_no_error(tmp_path: Path) -> None:
    log = _log(tmp_path / "nowhere" / "r")
    (row,) = log.keep([_row(1)])
    assert (log.held, log.on_disk(row), len(log)) == (False, False, 1)


async def test_a_reading_too_old_or_too_much_leaves_fire_alone_when_it_is_bulk(tmp_path: Path) -> None:
    limits = Limits(max_bytes=5_000)
    async with Outbox(tmp_path / "bulk.db", ManualClock(), limits=limits) as bulk, _fire(tmp_path / "fire.db") as fire:
        await fire.put("fire", "p1", {"alarm": True})
        for _ in range(200):
            await bulk.put("air", "a", {"pm10": 1.0})
        assert bulk.evicted > 100
        assert (fire.rows, fire.evicted) == (1, 0)
