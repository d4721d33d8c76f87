"""What the fire lane has receipted reaches the telemetry store even when the broker has forgotten telemetry's copy of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from iotcore.clock import ManualClock, SystemClock
from iotcore.journal.journal import Journal
from iotcore.journal.recent import RecentReadings
from iotcore.journal.records import Batch
from iotcore.reading import Reading, Value
from iotcore.settings import Settings
from tests.support.telemetry_bench import Bench, until

AGO_MS = 60_000.0


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "journal.db", SystemClock(), [])) as opened:
        yield opened


def keep(journal: Journal, *numbers: int, device: str = "f1", retained: bool = False) -> None:
    """The fire lane stores readings, a second apart; the first came a minute ago."""
    start = SystemClock().wall_ms() - AGO_MS
    for n in numbers:
        at_ms = start + n * 1000.0
        reading = Reading(device, "b1", n, "reading", at_ms, at_ms, (Value("smoke", n / 100),), retained=retained)
        journal.commit(Batch((reading,)))


async def test_readings_that_the_broker_forgot_are_filled_in_once_from_the_fire_journal(tmp_path: Path, journal: Journal) -> None:
    keep(journal, 1, 2, 3, 4)
    bench = Bench(tmp_path, Settings(data=str(tmp_path)))
    bench.fire_journal = RecentReadings(tmp_path / "journal.db", SystemClock())
    async with bench.running() as lane:
        await until(lambda: lane.counts()["stored"] == 4)
        bench.say("f1", 3, {"smoke": 0.03})
        bench.say("f1", 5, {"smoke": 0.05})
        await until(lambda: (lane.counts()["stored"], lane.counts()["duplicates"]) == (5, 1))
        await until(bench.drained)
    assert bench.rows("SELECT up_to, above, lost FROM progress WHERE device = 'f1'") == [(5, "[]", 0)]
    with bench.reader() as reader:
        assert [sample.value for sample in reader.samples("f1", "smoke", 0.0, 1e14)] == [0.01, 0.02, 0.03, 0.04, 0.05]
    assert not bench.fire.receipts


async def test_a_retained_reading_and_one_of_a_device_that_is_gone_are_not_filled_in(tmp_path: Path, journal: Journal) -> None:
    keep(journal, 1, retained=True)
    keep(journal, 1, 2, device="gone")
    keep(journal, 2)
    bench = Bench(tmp_path, Settings(data=str(tmp_path)))
    bench.fire_journal = RecentReadings(tmp_path / "journal.db", SystemClock())
    async with bench.running() as lane:
        await until(lambda: lane.counts()["stored"] == 1)
        await until(bench.drained)
    assert bench.rows("SELECT device, above FROM progress") == [("f1", "[[2, 2]]")]


async def test_what_was_filled_in_is_shown_but_does_not_make_a_device_look_alive(tmp_path: Path, journal: Journal) -> None:
    keep(journal, 1)
    bench = Bench(tmp_path, Settings(data=str(tmp_path)))
    bench.fire_journal = RecentReadings(tmp_path / "journal.db", SystemClock())
    async with bench.running() as lane:
        await until(lambda: lane.counts()["stored"] == 1)
    with bench.reader() as reader:
        assert [(row.point, row.value) for row in reader.latest("f1")] == [("smoke", 0.01)]
        assert [seen.last_seen_ms for seen in reader.presence("f1")] == [None]


def test_a_reading_is_not_called_missed_before_the_broker_had_time_to_bring_it(tmp_path: Path) -> None:
    clock = ManualClock(now_ms=1_000_000.0)
    path = tmp_path / "journal.db"
    with closing(Journal(path, clock, [])) as journal, closing(RecentReadings(path, clock)) as recent:
        for n in (1, 2):
            now = clock.wall_ms()
            journal.commit(Batch((Reading("f1", "b1", n, "reading", now, now, (Value("smoke", 0.1),)),)))
            clock.advance(2.0)
        asked: list[int] = []

        def missed(_device: str, _boot: str, seq: int) -> bool:
            asked.append(seq)
            return True

        first = recent.page(0, missed)
        assert ([reading.seq for reading in first.readings], asked, first.more) == ([1], [1], False)
        clock.advance(2.0)
        second = recent.page(first.cursor, missed)
        assert ([reading.seq for reading in second.readings], asked) == ([2], [1, 2])
        assert second.readings[0].values == (Value("smoke", 0.1),)
        assert recent.page(second.cursor, missed).readings == ()


def test_a_journal_that_was_emptied_and_filled_again_is_read_again(tmp_path: Path, journal: Journal) -> None:
    keep(journal, 1, 2, 3)
    with closing(RecentReadings(tmp_path / "journal.db", SystemClock())) as recent:
        cursor = recent.page(0, lambda *_: True).cursor
        journal.connection.execute("DELETE FROM reading")
        keep(journal, 4)
        assert [reading.seq for reading in recent.page(cursor, lambda *_: True).readings] == [4]


def test_without_a_journal_there_is_nothing_to_fill_in(tmp_path: Path) -> None:
    with closing(RecentReadings(tmp_path / "journal.db", SystemClock())) as recent:
        assert recent.page(7, lambda *_: True).readings == ()
