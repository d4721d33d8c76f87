"""A journal.db of the version before goes on under this one: nothing of it is lost, and what it promised is kept."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from iotcore.clock import ManualClock
from iotcore.errors import StartError
from iotcore.journal import upgrade
from iotcore.journal.database import connect_readonly
from iotcore.journal.journal import Journal
from iotcore.journal.outbox import SqlOutbox
from iotcore.journal.records import Batch
from iotcore.journal.timeline import timeline
from tests.support.fire import NOON_MS, notice, raise_

SCHEMA = Path(__file__).parents[1] / "support" / "journal_v0.sql"
OLD = "F20261122-120000-0A0B0C"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A fire that the receiver has not acknowledged yet, with the alarm of one rule twice, and a reset of an earlier one."""
    path = tmp_path / "journal.db"
    told = msgspec.json.encode(msgspec.structs.replace(notice(), incident=OLD)).decode()
    with closing(sqlite3.connect(path)) as file:
        file.executescript(SCHEMA.read_text(encoding="utf-8"))
        file.execute(
            "INSERT INTO incident (id, premises, state, notice, detector_ms, received_ms, decided_ms) "
            "VALUES (?, 'p1', 'open', ?, 1, 2, 3)",
            (OLD, told),
        )
        for state in ("active", "active", "test"):
            file.execute(
                "INSERT INTO alarm (incident, device, rule, severity, state, notice, detector_ms, received_ms, raised_ms) "
                "VALUES (?, 'sd-0001', 'smoke', 'alarm', ?, ?, 1, 2, 3)",
                (OLD, state, told),
            )
        file.execute("INSERT INTO channel_number VALUES ('arc', 41)")
        file.execute(
            "INSERT INTO outbox (incident, channel, event, number, notice, created_ms) VALUES (?, 'arc', 'alarm', 41, ?, 4)",
            (OLD, told),
        )
        file.execute("UPDATE sqlite_sequence SET seq = 900 WHERE name = 'outbox'")
        file.execute("INSERT INTO watermark VALUES ('sd-0001', 'b0', 7, 'F-earlier')")
        file.execute("INSERT INTO cause VALUES ('sd-0001', 'b1', 1, 'smoke', ?)", (OLD,))
        file.commit()
    return path


def test_what_an_old_journal_holds_is_still_there_and_still_sent(old: Path) -> None:
    with closing(Journal(old, ManualClock(), ["arc"])) as journal:
        row = SqlOutbox(journal).lease("arc", "one", NOON_MS, 1000.0)
        assert row is not None
        assert (row.id, row.incident, row.number, row.part) == (1, OLD, 41, 0)
        assert journal.commit(Batch(raises=(raise_(1), raise_(7, "b0")))).opened == ()  # known; of the closed episode
    with closing(connect_readonly(old)) as reader:
        found = timeline(reader, OLD)
        assert found is not None
        assert found.deliveries[0].channel == "arc"
        assert reader.execute("SELECT device, point FROM incident_point").fetchall()[0][:] == ("sd-0001", "smoke")


def test_numbers_go_on_where_the_old_journal_was(old: Path) -> None:
    with closing(Journal(old, ManualClock(), ["arc"])) as journal:
        (incident,) = journal.commit(Batch(raises=(raise_(of=notice("sd-0009", "p2")),))).opened
        row = journal.connection.execute("SELECT id, number FROM outbox WHERE incident = ?", (incident,)).fetchone()
    assert row == (901, 42)


def test_of_an_alarm_that_stood_twice_one_stands(old: Path) -> None:
    with closing(Journal(old, ManualClock(), ["arc"])) as journal:
        states = journal.connection.execute("SELECT state FROM alarm ORDER BY id").fetchall()
        assert journal.reset(OLD, ["sd-0001"], "op", 5.0)
    assert states == [("active",), ("repeat",), ("test",)]


def test_an_upgrade_that_cannot_finish_leaves_the_old_journal_as_it_was(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(upgrade, "STEPS", {1: upgrade.STEPS[1], 2: cut_off})
        patched.setattr(upgrade, "VERSION", 2)
        with pytest.raises(KeyboardInterrupt):
            Journal(old, ManualClock(), ["arc"])
    with closing(sqlite3.connect(old)) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (0,)
        assert "part" not in {row[1] for row in file.execute("PRAGMA table_info(outbox)")}
    test_what_an_old_journal_holds_is_still_there_and_still_sent(old)


def test_two_processes_that_start_at_once_upgrade_it_once(old: Path) -> None:
    opened: list[Journal] = []
    threads = [threading.Thread(target=lambda: opened.append(Journal(old, ManualClock(), ["arc"]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    assert opened[0].connection.execute("SELECT count(*) FROM alarm").fetchone() == (3,)
    for journal in opened:
        journal.close()


def test_a_journal_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "journal.db")) as file:
        file.execute(f"PRAGMA user_version = {upgrade.VERSION + 1}")
    with pytest.raises(StartError, match="newer"):
        Journal(tmp_path / "journal.db", ManualClock(), ["arc"])
