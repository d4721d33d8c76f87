"""What dispatch centres say, and a rejection, in the journal: once, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from iotcore.clock import ManualClock
from iotcore.errors import Refused
from iotcore.journal import cad, parked, story
from iotcore.journal.cad import Update
from iotcore.journal.database import Place
from iotcore.journal.journal import Journal
from iotcore.journal.outbox import SqlOutbox
from iotcore.journal.path_watch import SqlPaths
from iotcore.journal.records import Batch
from tests.support.fire import NOON_MS, raise_


@pytest.fixture
def journal(journal_place: Place) -> Iterator[Journal]:
    with closing(Journal(journal_place, ManualClock(), ["arc", "cad"], "one")) as journal:
        yield journal


def test_an_update_counts_once_for_each_receiver_and_only_of_what_it_was_told(journal: Journal) -> None:
    (incident,) = journal.commit(Batch(raises=(raise_(),))).opened
    update = Update(id="u-1", incident=incident, status="closed", disposition="báo nhầm")
    with journal.writing() as connection:
        assert cad.apply(connection, "cad", update, NOON_MS)
        assert not cad.apply(connection, "cad", update, NOON_MS + 1.0)
        assert cad.apply(connection, "arc", update, NOON_MS + 2.0)
        with pytest.raises(Refused, match="unknown_incident"):
            cad.apply(connection, "nobody", update, NOON_MS)
    told = cad.standing(story.told(journal.connection, incident))
    assert [(one.kind, one.by, one.detail, one.at_ms) for one in told] == [
        ("closed", "cad", "báo nhầm", NOON_MS),
        ("closed", "arc", "báo nhầm", NOON_MS + 2.0),
    ]


def test_a_rejection_is_told_once_for_each_reason_and_a_failure_is_not(journal: Journal) -> None:
    committed = journal.commit(Batch(raises=(raise_(),)))
    row = next(one for one in committed.leased if one.channel == "cad")
    outbox = SqlOutbox(journal)
    for reason in ("no_reply: 5 s", "rejected: bad location", "rejected: bad location", "rejected: too old"):
        outbox.retry(row.id, NOON_MS, reason, NOON_MS + 60_000.0)
    outbox.retry(-1, NOON_MS, "rejected: of no row", NOON_MS)
    said = [(one.by, one.detail) for one in story.told(journal.connection, row.incident) if one.kind == story.REJECTED]
    assert said == [("cad", "bad location"), ("cad", "too old")]
    kept = journal.connection.execute("SELECT attempts, last_error FROM outbox WHERE id = ?", (row.id,)).fetchone()
    assert tuple(kept) == (4, "rejected: too old")


def test_what_a_receiver_rejects_for_an_hour_is_offered_no_more_and_left_to_a_person(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    committed = journal.commit(Batch(raises=(raise_(),)))
    row, other = (next(one for one in committed.leased if one.channel == name) for name in ("cad", "arc"))
    outbox, watch = SqlOutbox(journal), SqlPaths(journal, ManualClock())
    for minute in range(61):
        at_ms = NOON_MS + minute * 60_000.0
        outbox.retry(row.id, at_ms, "rejected: bad location", at_ms)
        outbox.retry(other.id, at_ms, "no_reply: 5 s", at_ms)
        assert ("cad" in parked.given_up(journal.connection)) is (minute == 60)
    assert "iotcore notice list" in caplog.text
    assert watch.undelivered({}, NOON_MS - 1e9) == {"cad"}, "a trouble until somebody decides"
    (held,) = parked.listed(journal.connection)
    assert (held.incident, held.channel, held.event) == (row.incident, "cad", "alarm")
    assert outbox.lease("cad", "one", NOON_MS + 4e6, 1000.0) is None
    assert outbox.lease("arc", "one", NOON_MS + 4e6, 1000.0) is not None, "who does not answer is asked for ever"
    assert [one.kind for one in story.told(journal.connection, row.incident)][-1] == story.GIVEN_UP
    assert parked.decide(journal, row.incident, "send", "lan") == 1
    again = outbox.lease("cad", "one", NOON_MS + 4e6, 1000.0)
    assert again is not None
    assert (again.number != row.number, again.notice.delayed) == (True, True)
    assert watch.undelivered({}, NOON_MS - 1e9) == frozenset()


def test_a_clock_that_is_set_ahead_by_an_hour_gives_nothing_up(journal: Journal) -> None:
    row = journal.commit(Batch(raises=(raise_(),))).leased[0]
    outbox = SqlOutbox(journal)
    for hour in range(parked.REJECTED_TRIES - 1):
        outbox.retry(row.id, NOON_MS + hour * 3_600_000.0, "rejected: no", NOON_MS)
    assert parked.listed(journal.connection) == []
