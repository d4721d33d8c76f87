"""What the journal keeps of drills, on both databases: who reads them finds each run with its moments and its deliveries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from iotcore.clock import ManualClock
from iotcore.journal import drills
from iotcore.journal.database import Place
from iotcore.journal.drills import DrillDelivery
from iotcore.journal.prune import prune
from tests.support.fire_journal import FireJournal

DAY_MS = 86_400_000.0


@pytest.fixture
def fire(journal_place: Place) -> Iterator[FireJournal]:
    with closing(FireJournal(journal_place, ManualClock())) as fire:
        yield fire


def keep(fire: FireJournal, id_: str, premises: str, at_ms: float, state: str = "passed") -> None:
    """A run that was heard after 20 ms and durable after 25, acknowledged on one path after 60 and never on the other."""
    with fire.journal.writing() as connection:
        connection.execute(
            "INSERT INTO drill VALUES (?, ?, 'schedule', 'simulated', 'd1', 'alarm', 'true', ?, '', '', ?, ?, ?, ?, ?, ?, ?)",
            (id_, premises, state, at_ms, at_ms, at_ms, at_ms + 20.0, at_ms + 21.0, at_ms + 25.0, at_ms + 100_000.0),
        )
        connection.execute(
            "INSERT INTO drill_delivery VALUES (?, 'arc', 'arc', 1, '{}', 'acknowledged', '', ?, ?, 0), "
            "(?, 'arc', 'arc-2', 1, '{}', 'failed', 'connection refused', ?, NULL, 0)",
            (id_, at_ms + 30.0, at_ms + 60.0, id_, at_ms + 30.0),
        )


def test_the_drills_of_a_month_come_in_order_each_with_both_paths_and_what_they_took(fire: FireJournal) -> None:
    keep(fire, "D2", "p1", 2_000.0)
    keep(fire, "D1", "p2", 1_000.0)
    keep(fire, "D3", "p1", 3_000.0)
    connection = fire.journal.connection
    assert [one.id for one in drills.drills_between(connection, 1_000.0, 3_000.0)] == ["D1", "D2"]
    assert [one.id for one in drills.drills_between(connection, 0.0, 4_000.0, {"p1"})] == ["D2", "D3"]
    assert drills.drills_between(connection, 0.0, 4_000.0, ()) == []
    (found,) = drills.drills_between(connection, 1_000.0, 2_000.0)
    assert found.latency_ms == 25.0
    assert found.deliveries == (
        DrillDelivery("arc", "arc", "acknowledged", "", 1_030.0, 1_060.0),
        DrillDelivery("arc", "arc-2", "failed", "connection refused", 1_030.0, None),
    )
    assert [one.alternate for one in found.deliveries] == [False, True]
    assert [found.delivered_ms(one) for one in found.deliveries] == [60.0, None]


def test_the_newest_of_a_premises_come_first(fire: FireJournal) -> None:
    for number in range(3):
        keep(fire, f"D{number}", "p1", 1_000.0 * number)
    assert [one.id for one in drills.of_premises(fire.journal.connection, "p1", 2)] == ["D2", "D1"]
    assert drills.passed_ms(fire.journal.connection, "p1") == 102_000.0
    assert drills.passed_ms(fire.journal.connection, "p2") is None


def test_drills_are_forgotten_after_400_days_and_not_before(fire: FireJournal) -> None:
    keep(fire, "D1", "p1", 0.0)
    keep(fire, "D2", "p1", DAY_MS)
    with fire.journal.writing() as connection:
        prune(connection, 400 * DAY_MS)
        assert [one.id for one in drills.latest(connection)] == ["D2", "D1"]
        prune(connection, 400 * DAY_MS + 1.0)
        assert [one.id for one in drills.latest(connection)] == ["D2"]
        assert connection.execute("SELECT count(*) FROM drill_delivery").fetchone()[0] == 2
