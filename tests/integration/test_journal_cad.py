"""What dispatch centres say, and a rejection, in the journal: once, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from iotcore.clock import ManualClock
from iotcore.errors import Refused
from iotcore.journal import cad, story
from iotcore.journal.cad import Update
from iotcore.journal.database import Place
from iotcore.journal.journal import Journal
from iotcore.journal.outbox import SqlOutbox
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
