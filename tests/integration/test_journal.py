"""The journal: one incident for a premises and episode, whatever is duplicated, replayed or evaluated twice."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from iotcore.clock import ManualClock
from iotcore.errors import StoreError, StoreFull
from iotcore.journal import holds, story
from iotcore.journal.database import Place, connect_readonly
from iotcore.journal.journal import Journal
from iotcore.journal.outbox import SqlOutbox
from iotcore.journal.records import LEASE_MS, Batch, Carried, incident_id
from iotcore.journal.timeline import incidents, timeline
from iotcore.wire.arrival import Refusal
from tests.support.fire import notice, raise_, reading


@pytest.fixture
def journal(journal_place: Place) -> Iterator[Journal]:
    with closing(Journal(journal_place, ManualClock(), ["arc", "cad"])) as journal:
        yield journal


def count(journal: Journal, table: str) -> int:
    return int(journal.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_a_fire_becomes_one_incident_with_a_notice_for_every_channel(journal: Journal) -> None:
    opened = journal.commit(Batch(readings=(reading(smoke=0.4),), raises=(raise_(),))).opened
    assert len(opened) == 1
    told = journal.connection.execute("SELECT channel, event, number FROM outbox ORDER BY id").fetchall()
    assert told == [("arc", "alarm", 1), ("cad", "alarm", 1)]


def test_the_same_reading_twice_is_one_incident(journal: Journal) -> None:
    journal.commit(Batch(raises=(raise_(),)))
    assert journal.commit(Batch(raises=(raise_(),))).opened == ()
    assert count(journal, "incident") == count(journal, "alarm") == 1


def test_a_second_detector_of_the_premises_joins_the_incident(journal: Journal) -> None:
    (first,) = journal.commit(Batch(raises=(raise_(),))).opened
    assert journal.commit(Batch(raises=(raise_(of=notice("sd-0002")),))).opened == ()
    assert journal.connection.execute("SELECT DISTINCT incident FROM alarm").fetchall() == [(first,)]
    told = journal.connection.execute("SELECT channel, event, part FROM outbox ORDER BY id").fetchall()
    assert told == [("arc", "alarm", 0), ("cad", "alarm", 0), ("arc", "update", 1), ("cad", "update", 1)]


def test_another_premises_is_another_incident(journal: Journal) -> None:
    opened = journal.commit(Batch(raises=(raise_(), raise_(of=notice("sd-0009", "p2"))))).opened
    assert len(opened) == 2


def test_a_test_alarm_is_kept_and_never_dispatched(journal: Journal) -> None:
    assert journal.commit(Batch(raises=(raise_(test=True),))).opened == ()
    assert journal.connection.execute("SELECT state FROM alarm").fetchall() == [("test",)]
    assert count(journal, "outbox") == 0


def test_old_backlog_and_trouble_are_kept_and_never_dispatched(journal: Journal) -> None:
    journal.commit(Batch(raises=(raise_(historical=True), raise_(seq=2, of=notice(severity="trouble")))))
    assert count(journal, "alarm") == 2
    assert count(journal, "incident") == count(journal, "outbox") == 0


def test_after_a_reset_replayed_readings_join_the_closed_episode_and_new_ones_open_the_next(journal: Journal) -> None:
    (first,) = journal.commit(Batch(readings=(reading(seq=1, smoke=0.4), reading(seq=2, smoke=0.4)), raises=(raise_(),))).opened
    assert journal.reset(first, ["sd-0001"], "op", 1.0)
    assert journal.commit(Batch(raises=(raise_(seq=2),))).opened == ()
    (second,) = journal.commit(Batch(readings=(reading(seq=3, smoke=0.4),), raises=(raise_(seq=3),))).opened
    assert second != first


def test_a_reset_tells_every_receiver_that_got_the_alarm(journal: Journal) -> None:
    (first,) = journal.commit(Batch(raises=(raise_(),))).opened
    assert journal.reset(first, ["sd-0001"], "op", 1.0)
    assert not journal.reset(first, ["sd-0001"], "op", 2.0)
    told = journal.connection.execute("SELECT channel, event, number FROM outbox WHERE event = 'restore'").fetchall()
    assert told == [("arc", "restore", 2), ("cad", "restore", 2)]


def test_the_first_acknowledgement_wins(journal: Journal, journal_place: Place) -> None:
    (first,) = journal.commit(Batch(raises=(raise_(),))).opened
    assert journal.acknowledge(first, "trực ban 1", 10.0)
    assert not journal.acknowledge(first, "trực ban 2", 11.0)
    with closing(connect_readonly(journal_place)) as reader:
        found = timeline(reader, first)
    assert found is not None
    assert (found.acknowledged_by, found.acknowledged_ms) == ("trực ban 1", 10.0)


def test_numbers_wrap_to_one_and_a_lease_hides_a_notice_from_others(journal: Journal) -> None:
    journal.connection.execute("INSERT INTO channel_number VALUES ('arc', 8999)")
    journal.commit(Batch(raises=(raise_(),)))
    outbox = SqlOutbox(journal)
    row = outbox.lease("arc", "fire-1", 1000.0, 1000.0)
    assert row is not None
    assert row.number == 1
    assert outbox.lease("arc", "fire-2", 1500.0, 1000.0) is None
    taken_over = outbox.lease("arc", "fire-2", 2000.0, 1000.0)
    assert taken_over is not None
    assert taken_over.number == 1


def test_new_notices_are_leased_to_the_process_that_commits_them_and_to_another_when_it_dies(journal_place: Place) -> None:
    clock = ManualClock()
    journal = Journal(journal_place, clock, ["arc", "cad"], "fire-1")
    committed = journal.commit(Batch(raises=(raise_(), raise_(seq=2, of=notice("sd-0009", "p2")))))
    outbox, now_ms = SqlOutbox(journal), clock.wall_ms()
    assert [(row.incident, row.channel, row.number) for row in committed.leased] == [
        (incident, channel, number) for number, incident in enumerate(committed.opened, 1) for channel in ("arc", "cad")
    ]
    assert {row.notice.incident for row in committed.leased} == set(committed.opened)
    assert outbox.lease("arc", "fire-2", now_ms + LEASE_MS - 1.0, LEASE_MS) is None
    assert outbox.lease("arc", "fire-2", now_ms + LEASE_MS, LEASE_MS) == committed.leased[0]
    journal.close()


def test_an_incident_has_the_same_name_whoever_opens_it(tmp_path: Path) -> None:
    names: list[str] = []
    for replica in ("one", "two"):
        journal = Journal(tmp_path / f"{replica}.db", ManualClock(), ["arc"], replica)
        names += journal.commit(Batch(raises=(raise_(),))).opened
        journal.close()
    assert names[0] == names[1] == incident_id(raise_())
    assert re.fullmatch(r"F20261122-\d{6}-[0-9A-F]{6}", names[0])


def test_a_name_that_is_taken_is_drawn_again(journal: Journal) -> None:
    journal.connection.execute(
        "INSERT INTO incident (id, premises, state, notice, detector_ms, received_ms, decided_ms) "
        "VALUES (?, 'p2', 'open', '', 1, 2, 3)",
        (incident_id(raise_()),),
    )
    assert journal.commit(Batch(raises=(raise_(),))).opened == (incident_id(raise_(), 1),)


def test_the_story_of_an_incident_begins_with_what_opened_it(journal: Journal) -> None:
    (incident,) = journal.commit(Batch(raises=(raise_(),))).opened
    (first,) = story.told(journal.connection, incident)
    assert (first.kind, first.detail) == (story.OPENED, "sd-0001/smoke: above")


def test_a_rule_that_raises_again_while_its_alarm_stands_is_a_repeat_of_it(journal: Journal) -> None:
    journal.commit(Batch(raises=(raise_(),)))
    journal.commit(Batch(raises=(raise_(2), raise_(3))))
    assert journal.connection.execute("SELECT state, repeats FROM alarm").fetchall() == [("active", 2)]
    assert count(journal, "cause") == 3


def test_every_refusal_is_kept_and_counted(journal: Journal) -> None:
    journal.commit(Batch(refusals=(Refusal("not_json", "", "t", "", b"\xff" * 9000), Refusal("not_json", "", "t", "", b""))))
    assert journal.connection.execute("SELECT count FROM quarantine_count WHERE reason = 'not_json'").fetchone() == (2,)
    assert journal.connection.execute("SELECT length(payload), size FROM quarantine").fetchone() == (9000, 9000)


def test_what_cannot_be_read_is_said_as_everything_else_that_the_journal_cannot(journal: Journal) -> None:
    journal.connection.execute("ALTER TABLE incident RENAME TO elsewhere")
    for asked in (journal.open_incidents, lambda: holds.standing(journal, journal.now())):
        with pytest.raises(StoreError):
            asked()
    journal.connection.execute("ALTER TABLE elsewhere RENAME TO incident")
    assert list(journal.open_incidents()) == []


def test_a_full_disk_keeps_nothing_of_the_batch_and_it_goes_on_when_there_is_room(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db", ManualClock(), ["arc", "cad"])
    pages = journal.connection.execute("PRAGMA page_count").fetchone()[0]
    journal.connection.execute(f"PRAGMA max_page_count = {pages}")
    big = Batch(refusals=tuple(Refusal("not_json", "", "t", "", b"x" * 4096) for _ in range(100)), raises=(raise_(),))
    with pytest.raises(StoreFull):
        journal.commit(big)
    assert count(journal, "incident") == count(journal, "quarantine") == 0
    journal.connection.execute(f"PRAGMA max_page_count = {pages + 1000}")
    assert len(journal.commit(big).opened) == 1
    journal.close()


WRITER = """
import sys
from pathlib import Path
from iotcore.clock import SystemClock
from iotcore.journal.journal import Journal
from iotcore.journal.records import Batch
from tests.support.fire import notice, raise_, reading
journal = Journal(sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1]), SystemClock(), ["arc"])
for n in range(1, 100_000):
    journal.commit(Batch(readings=(reading(f"d{n}", 1, smoke=0.4),), raises=(raise_(of=notice(f"d{n}", f"p{n}")),)))
    print(n, flush=True)
"""


def test_kill_9_loses_no_committed_incident_and_leaves_no_half_one(journal_place: Place) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(journal_place)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) == 100:
                os.kill(writer.pid, signal.SIGKILL)
                break
        said = [int(line) for line in writer.stdout.read().split()]
    last = max(said, default=100)
    reader = connect_readonly(journal_place)
    assert len(incidents(reader, limit=100_000)) in (last, last + 1)
    orphans = reader.execute("SELECT count(*) FROM incident WHERE id NOT IN (SELECT incident FROM outbox)").fetchone()[0]
    reader.close()
    assert orphans == 0


def test_what_receivers_were_told_without_the_journal_is_an_incident_though_another_replica_kept_a_mere_record(
    journal: Journal,
) -> None:
    fire = raise_(1)
    journal.commit(Batch(raises=(replace(fire, historical=True),)))
    told = Carried(incident_id(fire), "arc", 9_000, fire, 0, None, fire.decided_ms, "ACK", busy=False)
    assert journal.commit(Batch(raises=(fire,), carried=(told,))).opened == (told.incident,)
    assert journal.commit(Batch(raises=(fire,), carried=(told,))).opened == ()
    assert journal.open_incidents() == [(fire.notice.premises, told.incident)]
