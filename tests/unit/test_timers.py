"""Timers: due by the machine's uptime, after a reboot by the wall clock and early rather than late; taken once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from iotcore.clock import ManualClock
from iotcore.journal import timers
from iotcore.journal.database import Connection, transaction
from iotcore.journal.journal import Journal
from iotcore.journal.timers import Now

HOUR_MS = 3_600_000.0
KINDS = ("escalation", "hold_t1")
SET = Now("machine-1", 100.0, 50_000.0)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    journal = Journal(tmp_path / "journal.db", ManualClock(), [])
    yield journal.connection
    journal.close()


def is_due(connection: Connection, now: Now) -> bool:
    return bool(timers.due(connection, now, KINDS, 10))


@pytest.mark.parametrize(
    ("now", "due"),
    [
        (Now("machine-1", 129.9, 79_900.0), False),
        (Now("machine-1", 130.0, 80_000.0), True),
        (Now("machine-1", 129.9, 50_000.0 + HOUR_MS), False),  # the clock was set forward: durations stay as they are
        (Now("machine-1", 130.0, 50_000.0 - HOUR_MS), True),  # or back
        (Now("machine-2", 3.0, 79_900.0), False),  # after a reboot the wall clock counts
        (Now("machine-2", 3.0, 80_000.0), True),
        (Now("machine-2", 3.0, 50_000.0 - HOUR_MS), True),  # it was set back: nobody knows, so it is due
        (Now("machine-2", 3.0, 49_000.0), False),  # slewed
        (Now("", 9_999.0, 79_900.0), False),  # a machine without a name: uptimes of two processes do not compare
    ],
)
def test_when_a_timer_of_thirty_seconds_is_due(connection: Connection, now: Now, *, due: bool) -> None:
    timers.set(connection, SET, "escalation", "F-1", 30.0)
    assert is_due(connection, now) is due
    wait_s = timers.after_s(connection, now, KINDS)
    assert wait_s is not None
    assert (wait_s == 0.0) is due


def test_how_long_until_the_next_one(connection: Connection) -> None:
    assert timers.after_s(connection, SET, KINDS) is None
    timers.set(connection, SET, "escalation", "F-1", 30.0)
    timers.set(connection, SET, "hold_t1", "F-1", 12.0)
    timers.set(connection, SET, "another", "F-1", 1.0)
    assert timers.after_s(connection, Now("machine-1", 105.0, 55_000.0), KINDS) == pytest.approx(7.0)


def test_the_longest_due_come_first_and_other_kinds_not_at_all(connection: Connection) -> None:
    for key, after_s in (("late", 5.0), ("early", 1.0), ("not yet", 500.0)):
        timers.set(connection, SET, "escalation", key, after_s, body=f"step of {key}")
    timers.set(connection, SET, "another", "x", 0.0)
    now = Now("machine-1", 110.0, 60_000.0)
    assert timers.due(connection, now, KINDS, 10) == [
        ("escalation", "early", "step of early"),
        ("escalation", "late", "step of late"),
    ]
    assert len(timers.due(connection, now, KINDS, 1)) == 1


def test_a_timer_that_is_set_again_is_one_with_its_new_deadline(connection: Connection) -> None:
    timers.set(connection, SET, "escalation", "F-1", 1.0, body="first")
    timers.set(connection, SET, "escalation", "F-1", 30.0, body="second")
    assert not is_due(connection, Now("machine-1", 129.0, 79_000.0))
    assert timers.due(connection, Now("machine-1", 131.0, 81_000.0), KINDS, 10) == [("escalation", "F-1", "second")]


def test_a_timer_is_taken_once_and_a_cancelled_one_never(connection: Connection) -> None:
    timers.set(connection, SET, "escalation", "F-1", 0.0)
    assert timers.take(connection, "escalation", "F-1")
    assert not timers.take(connection, "escalation", "F-1")
    timers.set(connection, SET, "escalation", "F-2", 0.0)
    assert timers.cancel(connection, "escalation", "F-2")
    assert not timers.cancel(connection, "escalation", "F-2")
    assert not timers.take(connection, "escalation", "F-2")


def test_a_timer_is_there_again_when_the_transaction_of_its_act_fails(connection: Connection) -> None:
    timers.set(connection, SET, "escalation", "F-1", 0.0)

    def act() -> None:
        with transaction(connection):
            assert timers.take(connection, "escalation", "F-1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        act()
    assert is_due(connection, SET)
