"""What people do about alarms, in SQL: each act apart, told to whoever was told, the second time nothing; on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from iotcore.clock import ManualClock, Uptime
from iotcore.errors import Refused
from iotcore.journal import acts, flaps, shelf, story
from iotcore.journal.database import Place
from iotcore.journal.journal import Journal
from iotcore.journal.outbox import SqlOutbox
from iotcore.journal.posting import notice_of
from iotcore.journal.records import Batch, Cleared, Raise
from iotcore.journal.shelf import Shelved
from iotcore.journal.telling import SqlTold
from tests.support.fire import NOON_MS, notice, raise_

HOUR_MS = 3_600_000.0


@pytest.fixture
def journal(journal_place: Place) -> Iterator[Journal]:
    with closing(Journal(journal_place, ManualClock(), ["arc", "cad"], "one")) as journal:
        yield journal


def burn(journal: Journal) -> str:
    (incident,) = journal.commit(Batch(raises=(raise_(),))).opened
    return incident


def trouble(seq: int = 1, at_s: float = 0.0, *, latched: bool = False) -> Raise:
    one = raise_(seq, of=notice(rule="low-battery", severity="trouble"))
    return replace(one, latched=latched, decided_ms=NOON_MS + at_s * 1000.0)


def kinds(journal: Journal, incident: str) -> list[str]:
    return [line.kind for line in story.told(journal.connection, incident)]


def events(journal: Journal) -> list[tuple[str, str, int]]:
    return [tuple(row) for row in journal.connection.execute("SELECT channel, event, part FROM outbox ORDER BY id").fetchall()]


def alarms(journal: Journal, columns: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in journal.connection.execute(f"SELECT {columns} FROM alarm ORDER BY id").fetchall()]


def test_silence_is_no_acknowledgement_and_changes_nothing_of_delivery(journal: Journal) -> None:
    incident, before = burn(journal), events(journal)
    with journal.writing() as connection:
        assert acts.silence(connection, incident, "an", 10.0)
        assert not acts.silence(connection, incident, "binh", 11.0)
    assert events(journal) == before
    assert [one.incident for one in acts.unacknowledged(journal.connection, journal.now())] == [incident]
    assert kinds(journal, incident) == [story.OPENED, story.SILENCED]


def test_an_acknowledged_incident_is_no_longer_among_those_that_nobody_took(journal: Journal) -> None:
    incident = burn(journal)
    assert journal.acknowledge(incident, "an", 10.0)
    assert acts.unacknowledged(journal.connection, journal.now()) == []
    assert alarms(journal, "state, acknowledged_by") == [("active", "an")]


def test_one_alarm_may_be_acknowledged_alone(journal: Journal) -> None:
    incident = burn(journal)
    journal.commit(Batch(raises=(raise_(of=notice("sd-0002")),)))
    with journal.writing() as connection:
        assert acts.acknowledge_alarm(connection, 2, "an", 10.0)
        assert not acts.acknowledge_alarm(connection, 2, "binh", 11.0)
    assert alarms(journal, "acknowledged_by") == [(None,), ("an",)]
    assert [one.incident for one in acts.unacknowledged(journal.connection, journal.now())] == [incident]


def test_a_reset_tells_each_channel_after_its_alarm_and_withdraws_updates_that_were_not_delivered(journal: Journal) -> None:
    incident = burn(journal)
    journal.commit(Batch(raises=(raise_(of=notice("sd-0002")),)))
    assert journal.reset(incident, ["sd-0001", "sd-0002"], "an", 10.0)
    assert events(journal) == [("arc", "alarm", 0), ("cad", "alarm", 0), ("arc", "restore", 0), ("cad", "restore", 0)]
    assert kinds(journal, incident)[-3:] == [story.WITHDRAWN, story.WITHDRAWN, story.RESET]
    assert alarms(journal, "state") == [("reset",), ("reset",)]


def test_a_later_point_is_told_once_and_one_that_was_told_is_not(journal: Journal) -> None:
    burn(journal)
    joined = journal.commit(Batch(raises=(raise_(of=notice("sd-0002")),)))
    assert len(joined.updated) == 1
    again = journal.commit(Batch(raises=(raise_(2, of=notice("sd-0002", rule="heat")), raise_(3))))
    assert again.updated == ()
    (kept,) = journal.connection.execute("SELECT notice FROM outbox WHERE event = 'update' AND channel = 'arc'").fetchone()
    told = notice_of(kept)
    assert (told.event, told.device, told.points) == ("update", "sd-0002", ("sd-0001/smoke", "sd-0002/smoke"))


def test_points_that_corroborate_a_decision_are_told_with_it(journal: Journal) -> None:
    journal.commit(Batch(raises=(replace(raise_(), points=("sd-0002/smoke",)),)))
    (kept,) = journal.connection.execute("SELECT notice FROM outbox WHERE channel = 'arc'").fetchone()
    assert set(notice_of(kept).points) == {"sd-0001/smoke", "sd-0002/smoke"}
    assert journal.commit(Batch(raises=(raise_(of=notice("sd-0002")),))).updated == ()


def test_only_the_receivers_of_a_premises_are_told_and_all_where_none_of_them_is_known(journal: Journal) -> None:
    journal.commit(Batch(raises=(replace(raise_(), receivers=("cad", "gone")),)))
    assert [channel for channel, _, _ in events(journal)] == ["cad"]
    journal.commit(Batch(raises=(replace(raise_(of=notice("sd-9", "p9")), receivers=("gone",)),)))
    assert [channel for channel, _, _ in events(journal)] == ["cad", "arc", "cad"]


@pytest.mark.parametrize("said", ["confirmed", "denied"])
def test_the_owners_word_is_told_and_cancels_nothing(journal: Journal, said: acts.Said) -> None:
    incident = burn(journal)
    with journal.writing() as connection:
        assert acts.owner_said(connection, incident, said, "chủ nhà", 10.0)
        assert not acts.owner_said(connection, incident, said, "chủ nhà", 11.0)
    assert events(journal)[2:] == [("arc", "update", 1), ("cad", "update", 1)]
    row = SqlOutbox(journal).lease("arc", "one", journal.now_ms(), 1000.0)
    assert row is not None
    assert (row.notice.event, row.notice.owner_said) == ("alarm", "")
    (kept,) = journal.connection.execute("SELECT notice FROM outbox WHERE event = 'update' AND channel = 'arc'").fetchone()
    assert notice_of(kept).owner_said == said
    assert kinds(journal, incident)[-1] == said


def test_a_latched_alarm_stays_when_its_condition_is_over_and_another_ends(journal: Journal) -> None:
    journal.commit(Batch(raises=(raise_(), trouble(2))))
    journal.commit(Batch(cleared_alarms=(Cleared("sd-0001", "smoke", 20.0), Cleared("sd-0001", "low-battery", 21.0))))
    assert alarms(journal, "rule, state, cleared_ms") == [("smoke", "active", 20.0), ("low-battery", "ended", 21.0)]


def test_a_latched_trouble_ends_with_its_own_reset_and_a_fire_only_with_its_incident(journal: Journal) -> None:
    journal.commit(Batch(raises=(trouble(1, latched=True), raise_(2))))
    with journal.writing() as connection:
        assert acts.reset_alarm(connection, 1, "an", 10.0)
        assert not acts.reset_alarm(connection, 1, "an", 11.0)
        assert not acts.reset_alarm(connection, 2, "an", 12.0)
    assert alarms(journal, "state, acknowledged_by") == [("reset", "an"), ("active", None)]


def test_what_comes_and_goes_is_one_alarm_that_counts_its_flaps_and_is_not_closed_for_it(journal: Journal) -> None:
    for n in range(6):
        journal.commit(Batch(raises=(trouble(n + 1, n * 20.0),)))
        journal.commit(Batch(cleared_alarms=(Cleared("sd-0001", "low-battery", NOON_MS + n * 20_000.0 + 5_000.0),)))
    assert alarms(journal, "state, repeats, flaps, flap_run") == [("ended", 5, 5, 5)]
    assert flaps.FLAPPING <= 5
    journal.commit(Batch(raises=(trouble(9, 5_000.0),)))
    assert alarms(journal, "state, flaps") == [("ended", 5), ("active", 0)]


def flap_until_it_is_a_trouble(journal: Journal) -> None:
    for n in range(flaps.FLAPPING + 1):
        assert journal.standing_faults() == []
        journal.commit(Batch(raises=(raise_(n + 1),)))
        journal.commit(Batch(cleared_alarms=(Cleared("sd-0001", "smoke", NOON_MS + 1.0),)))
    assert journal.standing_faults() == [("sd-0001", "flapping:smoke")]


def test_an_alarm_that_flaps_is_a_trouble_that_is_told_and_the_alarm_goes_on_as_ever(journal: Journal) -> None:
    flap_until_it_is_a_trouble(journal)
    assert journal.end_calm() == 1, "it stands"
    work = SqlTold(journal).next("arc", {"trouble"}, journal.now_ms())
    assert work is not None
    assert (work.device, work.reason, work.severity, work.state) == ("sd-0001", "flapping:smoke", "trouble", "raise")
    assert alarms(journal, "state, flaps") == [("active", flaps.FLAPPING)], "neither closed nor hidden"
    assert events(journal) == [("arc", "alarm", 0), ("cad", "alarm", 0)], "told once to each receiver, and not called off"


def test_the_trouble_of_flapping_ends_ten_calm_minutes_after_the_last_flap_whatever_clocks_do(tmp_path: Path) -> None:
    clock = ManualClock()
    with closing(Journal(tmp_path / "journal.db", clock, ["arc"], uptime=Uptime("boot-1", clock.monotonic_s))) as journal:
        flap_until_it_is_a_trouble(journal)
        clock.advance(599.0)
        journal.commit(Batch(raises=(raise_(50),), cleared_alarms=(Cleared("sd-0001", "smoke", NOON_MS + 1.0),)))
        clock.now_ms -= HOUR_MS
        clock.advance(599.0)
        assert journal.end_calm() == 1
        clock.advance(1.0)
        assert journal.end_calm() == 0
        assert journal.standing_faults() == []
        assert alarms(journal, "state") == [("active",)], "latched: it stands until its reset"


def test_a_fire_that_flaps_is_one_alarm_unacknowledged_again(journal: Journal) -> None:
    incident = burn(journal)
    with journal.writing() as connection:
        acts.acknowledge_alarm(connection, 1, "an", 10.0)
    journal.commit(Batch(cleared_alarms=(Cleared("sd-0001", "smoke", 20.0),)))
    journal.commit(Batch(raises=(raise_(2),)))
    assert alarms(journal, "incident, state, cleared_ms, acknowledged_by, flaps") == [(incident, "active", None, None, 1)]


def test_a_fire_on_a_disabled_point_is_on_record_and_tells_nobody(journal: Journal) -> None:
    assert journal.commit(Batch(raises=(replace(raise_(), disabled="D1"),))).opened == ()
    assert alarms(journal, "state, incident") == [("disabled", None)]
    assert events(journal) == []


def test_a_fire_is_never_shelved_and_anything_else_for_a_day_at_most_with_a_reason(journal: Journal) -> None:
    burn(journal)
    one = Shelved("sd-0001", "low-battery", NOON_MS + HOUR_MS, "an", "thay pin chiều nay", NOON_MS)
    wrong = {
        "fire": (one, "alarm"),
        "too_long": (one._replace(until_ms=NOON_MS + 25 * HOUR_MS), "trouble"),
        "past": (one._replace(until_ms=NOON_MS - 1.0), "trouble"),
        "no_reason": (one._replace(reason=" "), "trouble"),
    }
    for reason, (asked, severity) in wrong.items():
        with pytest.raises(Refused) as refused:
            shelf.shelve(journal.connection, asked, severity)  # type: ignore[arg-type]
        assert refused.value.reason == reason
    with pytest.raises(Refused, match="never shelved"):  # whatever severity is claimed for it
        shelf.shelve(journal.connection, one._replace(rule="smoke"), "trouble")
    shelf.shelve(journal.connection, one, "trouble")
    assert shelf.shelved(journal.connection, NOON_MS) == [one]
    assert shelf.shelved(journal.connection, NOON_MS + HOUR_MS) == []
    assert shelf.tidy(journal.connection, NOON_MS + HOUR_MS) == [one]
    assert not shelf.take_back(journal.connection, "sd-0001", "low-battery", NOON_MS)


def test_a_notice_that_an_older_version_stored_is_still_read() -> None:
    old = msgspec.to_builtins(notice())
    for added in ("points", "owner_said", "delayed", "unconfirmed"):
        old.pop(added, None)
    assert notice_of(msgspec.json.encode(old).decode()) == notice()


def test_points_that_one_device_says_at_once_are_one_notice_and_another_device_is_an_update(journal: Journal) -> None:
    own = msgspec.structs.replace(notice(rule="own-alarm"), point="alarm")
    committed = journal.commit(Batch(raises=(raise_(), raise_(of=own), raise_(of=notice("sd-0002")))))
    assert [tuple(one) for one in events(journal)] == [
        ("arc", "alarm", 0),
        ("cad", "alarm", 0),
        ("arc", "update", 1),
        ("cad", "update", 1),
    ]
    assert committed.leased[0].notice.points == ("sd-0001/smoke", "sd-0001/alarm", "sd-0002/smoke")
    assert committed.updated == committed.opened
