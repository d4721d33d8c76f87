"""What the journal keeps besides alarms: refused messages within bounds, test alarms and their way back; on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from iotcore.clock import ManualClock
from iotcore.journal import quarantine
from iotcore.journal.database import Place
from iotcore.journal.quarantine import MAX_ROWS_OF_ONE, Wanted
from iotcore.journal.records import Batch
from iotcore.registry.directory import InTest
from iotcore.wire.arrival import Refusal
from tests.support.fire_journal import FireJournal

TOPIC = "iot/v1/fire/d1/up/reading/d1"
FIRE = Wanted(lane="fire")


@pytest.fixture
def fire(journal_place: Place) -> Iterator[FireJournal]:
    with closing(FireJournal(journal_place, ManualClock())) as fire:
        yield fire


def kept(fire: FireJournal) -> tuple[int, int]:
    """Rows and bytes as the bounds know them."""
    row = fire.journal.connection.execute("SELECT rows, bytes FROM quarantine_kept").fetchone()
    return int(row[0]), int(row[1])


def refuse(fire: FireJournal, count: int, device: str = "d1") -> None:
    fire.journal.commit(Batch(refusals=tuple(Refusal("not_json", "", TOPIC, device, b"%03d" % n) for n in range(count))))


def test_what_is_refused_is_found_tried_again_and_dropped(fire: FireJournal) -> None:
    refuse(fire, 3)
    rows = fire.journal.quarantined(FIRE, 10, 0)
    assert [(row.reason, row.payload, row.unfit) for row in rows] == [
        ("not_json", b"000", ""),
        ("not_json", b"001", ""),
        ("not_json", b"002", ""),
    ]
    fire.journal.commit(Batch(settled=(rows[0].id,)))
    assert fire.journal.drop_quarantined(Wanted(lane="fire", ids=(rows[1].id,))) == 1
    assert [row.payload for row in fire.journal.quarantined(FIRE, 10, 0)] == [b"002"]
    assert kept(fire) == (1, 3)
    fire.journal.answer(7, "{}")
    fire.journal.answer(7, '{"removed": 1}')
    assert quarantine.answered(fire.journal.connection) == 7


def test_a_message_with_a_nul_in_it_is_kept_and_stops_nothing(fire: FireJournal) -> None:
    fire.journal.commit(Batch(refusals=(Refusal("not\0json", "said \0", TOPIC, "d1", b"\0"),)))
    (row,) = fire.journal.quarantined(FIRE, 10, 0)
    assert row.payload == b"\0"
    assert fire.burn()


def test_a_flood_is_counted_and_one_culprit_has_a_bounded_number_of_rows(fire: FireJournal) -> None:
    for minute in range(MAX_ROWS_OF_ONE // quarantine.ROWS_A_MINUTE + 2):
        fire.clock.advance(61.0)
        refuse(fire, quarantine.ROWS_A_MINUTE + 5)
        assert kept(fire)[0] <= MAX_ROWS_OF_ONE, minute
    count = fire.journal.connection.execute("SELECT count FROM quarantine_count WHERE reason = 'not_json'").fetchone()
    assert count == ((MAX_ROWS_OF_ONE // quarantine.ROWS_A_MINUTE + 2) * (quarantine.ROWS_A_MINUTE + 5),)


def test_a_fault_counts_and_ends_and_begins_anew(fire: FireJournal) -> None:
    for faults in ((("d1", "gap"),), (("d1", "gap"),)):
        fire.journal.commit(Batch(faults=faults))
    assert fire.journal.standing_faults() == [("d1", "gap")]
    fire.journal.commit(Batch(cleared=(("d1", "gap"),)))
    assert fire.journal.standing_faults() == []
    first_ms = fire.clock.wall_ms()
    fire.clock.advance(60.0)
    fire.journal.commit(Batch(faults=(("d1", "gap"),)))
    row = fire.journal.connection.execute("SELECT count, first_ms FROM fault").fetchone()
    assert row == (3, first_ms + 60_000.0)


def test_a_test_alarm_goes_its_way_back_once(fire: FireJournal) -> None:
    mode = InTest(int(fire.clock.wall_ms()) - 1_000, int(fire.clock.wall_ms()) + 60_000, "an")
    assert fire.burn(test=True, in_test=mode) == ""
    (alarm,) = fire.journal.tests_on_the_road()
    assert (alarm.device, alarm.proves, alarm.latency_ms) == ("d1", True, 13.6)
    fire.journal.note_back(alarm.id, fire.clock.wall_ms())
    assert fire.journal.tests_on_the_road() == []
    assert fire.burn("p2", "d2", in_test=mode)
    fire.journal.settle_tests()


def test_the_oldest_boots_of_a_device_are_forgotten(fire: FireJournal) -> None:
    with fire.journal.writing() as connection:
        quarantine.save_progress(connection, [("d1", f"b{n}", 1, "[]", 0) for n in range(5)], shared=True)
        assert [row[1] for row in quarantine.load_progress(connection, 2)] == ["b3", "b4"]
