"""Everybody who reads the journal reads it wherever it is: page, feed, keeper, telemetry, commands. And what it forgets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from iotcore.backup.contents import contents
from iotcore.clock import ManualClock, SystemClock
from iotcore.commands import doctor, office, quarantine, restore
from iotcore.journal.database import Place
from iotcore.journal.prune import KEEP_CHANGES_MS, KEEP_MS, KEEP_READINGS_MS, STEP_ROWS, prune
from iotcore.journal.recent import RecentReadings
from iotcore.journal.records import Batch
from iotcore.keeper import OVERDUE_MS, overdue_notices
from iotcore.settings import Journal as JournalSettings
from iotcore.settings import Settings
from iotcore.telemetry.coverage import Files, signs_of_life
from iotcore.telemetry.embedded import TelemetryFile
from iotcore.telemetry.feed import follow_incidents
from iotcore.telemetry.point import PlatformSeries
from iotcore.telemetry.spool import Spool
from iotcore.web.view import StoredView
from tests.support.canonical import DIRECTORY
from tests.support.fire import NOON_MS, notice, raise_, reading
from tests.support.fire_journal import ARC, CAD, FireJournal
from tests.support.telemetry_bench import until


@pytest.fixture
def fire(journal_place: Place) -> Iterator[FireJournal]:
    with closing(FireJournal(journal_place, ManualClock(NOON_MS))) as fire:
        yield fire


@pytest.fixture
def settings(tmp_path: Path, journal_place: Place) -> Settings:
    url = journal_place if isinstance(journal_place, str) else ""
    return Settings(data=str(tmp_path), journal=JournalSettings(url))


def count(fire: FireJournal, table: str) -> int:
    return int(fire.journal.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_the_page_shows_what_is_there_and_sees_what_changes(fire: FireJournal, tmp_path: Path, journal_place: Place) -> None:
    incident = fire.burn()
    with closing(StoredView(tmp_path, lambda: DIRECTORY, journal_place)) as view:
        assert [one["id"] for one in view.incidents()] == [incident]
        assert view.readable()["journal"]
        view.changed()
        assert not view.changed()
        fire.journal.acknowledge(incident, "an", NOON_MS)
        assert view.changed()
        fire.refuse("not_json")
        assert view.refused() == {"not_json": 1}


async def test_the_feed_follows_it(fire: FireJournal, tmp_path: Path, journal_place: Place) -> None:
    fire.burn()
    fire.deliver(ARC)
    spool = Spool(tmp_path / "spool-1.db", SystemClock(), store_format="row1", max_bytes=10**8, max_age_s=3600.0)
    async with spool:
        task = asyncio.create_task(follow_incidents(journal_place, PlatformSeries(spool, "row1", lambda: None)))
        last = fire.journal.connection.execute("SELECT max(id) FROM change").fetchone()[0]

        async def followed() -> bool:
            return any(row.up_to == last for row in await spool.progress())

        await until(followed)
        task.cancel()
        await asyncio.wait({task})
        lines = b"".join([batch.lines for batch in await spool.newest(10)])
    assert b"receiver_acknowledged" in lines


def test_telemetry_finds_the_readings_that_it_missed(fire: FireJournal, journal_place: Place) -> None:
    fire.burn()
    fire.burn()
    fire.clock.advance(10.0)
    recent = RecentReadings(journal_place, fire.clock)
    with closing(recent):
        page = recent.page(0, lambda _device, _boot, seq: seq == 2)
        assert [one.seq for one in page.readings] == [2]
        assert recent.page(page.cursor, lambda *_: True).readings == ()


def test_the_keeper_says_what_nobody_took(fire: FireJournal, journal_place: Place) -> None:
    incident = fire.burn()
    fire.deliver(ARC)
    fire.clock.advance(OVERDUE_MS / 1000.0 + 1.0)
    assert overdue_notices(journal_place, fire.clock, {}) == [f"{incident} alarm → {CAD}"]


async def test_commands_read_it(fire: FireJournal, settings: Settings) -> None:
    incident = fire.burn()
    fire.refuse("not_json")
    assert [one["incident"] for one in office.incidents(settings)] == [incident]
    assert restore.parked_notices(settings) == []
    assert [lane for lane, _ in quarantine._files(settings)] == ["fire"]
    told = await doctor._journal(settings)
    assert (told.well, told.said) == (False, "2 notices wait for a receiver")


def test_a_backup_says_that_a_journal_on_a_server_is_not_in_it(fire: FireJournal, settings: Settings, tmp_path: Path) -> None:
    config = tmp_path / "iotcore.toml"
    config.write_text("", encoding="utf-8")
    found = contents(settings, config, telemetry=False)
    missing = [one for one in found.left_out if "pg_dump" in one]
    assert len(missing) == bool(settings.journal.url)
    assert ("data/journal.db" in found.databases) is not bool(settings.journal.url)
    assert fire.burn()


async def test_who_is_offline_is_known_from_it(fire: FireJournal, tmp_path: Path, journal_place: Place) -> None:
    fire.journal.commit(Batch(faults=(("d7", "offline"),)))
    async with TelemetryFile(tmp_path / "telemetry.db"):
        assert signs_of_life(Files(tmp_path / "telemetry.db", journal_place)).offline == {"d7"}


def test_what_is_old_is_forgotten_step_by_step_and_what_is_open_never(fire: FireJournal) -> None:
    journal, old_ms = fire.journal, NOON_MS + KEEP_MS + 60_000.0
    ended, still_open = fire.burn("p1", "d1"), fire.burn("p2", "d2")
    fire.deliver(ARC)
    assert journal.reset(ended, ["d1"], "an", NOON_MS)
    journal.commit(
        Batch(raises=(raise_(1, of=notice("d3", severity="trouble")), raise_(2, of=notice("d3", rule="x"), test=True)))
    )
    with journal.writing() as connection:
        prune(connection, old_ms)
    assert journal.connection.execute("SELECT id FROM incident").fetchall() == [(still_open,)]
    for table in ("incident_event", "incident_point", "outbox", "cause"):
        kept = journal.connection.execute(f"SELECT DISTINCT incident FROM {table}").fetchall()
        assert kept == [(still_open,)], table
    states = journal.connection.execute("SELECT device, state FROM alarm ORDER BY id").fetchall()
    assert states == [("d2", "active"), ("d3", "active")]
    assert count(fire, "change") == count(fire, "reading") == 0


def test_one_step_forgets_a_bounded_number_of_rows(fire: FireJournal) -> None:
    journal = fire.journal
    with journal.writing() as connection:
        connection.executemany("INSERT INTO change (kind, key, at_ms) VALUES ('alarm', '1', ?)", [(1.0,)] * (STEP_ROWS + 5))
        prune(connection, KEEP_CHANGES_MS + 10.0)
    assert count(fire, "change") == 5


def test_readings_warm_the_rules_for_a_quarter_of_an_hour_and_are_pruned_by_whoever_commits(fire: FireJournal) -> None:
    journal = fire.journal
    fire.burn()
    fire.clock.advance(KEEP_READINGS_MS / 1000.0 - 30.0)
    journal.commit(Batch(readings=(reading("d2", smoke=0.1),)))
    assert len(journal.recent_readings()) == 2
    fire.clock.advance(90.0)
    journal.commit(Batch())
    assert [one.device for one in journal.recent_readings()] == []
