"""A fire that nobody acknowledges is told again, to the next; one acknowledgement stops it on every channel, whoever dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from iotcore.app.escalating import Escalating
from iotcore.clock import ManualClock
from iotcore.journal import acts, story
from iotcore.journal.database import Place
from iotcore.journal.journal import Journal
from iotcore.journal.posting import notice_of
from iotcore.journal.records import Batch, Hold, Raise
from iotcore.journal.watching import standing_still
from iotcore.registry import response
from iotcore.registry.directory import Directory
from tests.support.fire import raise_

CHANNELS = ["arc", "cad", "phone"]
PEOPLE = [{"name": name, "number": f"+8490000000{n}"} for n, name in enumerate(("bảo vệ", "chủ nhà", "trực ban"))]
PLAN = response.check(
    {"numbers": PEOPLE, "ladder": [{"after_s": 30, "whom": ["cad", "chủ nhà"]}, {"after_s": 90, "whom": ["arc"]}]}, CHANNELS
)


class Bench:
    """A journal, its clock, and fire processes that look."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.clock = ManualClock()
        self.plan = response.DEFAULT
        self.woken = 0
        self.journal = self.open()

    def open(self) -> Journal:
        return Journal(self.place, self.clock, CHANNELS, "fire-1")

    def process(self, journal: Journal | None = None) -> Escalating:
        return Escalating(journal or self.journal, self._directory, ["phone"], self._wake)

    def burn(self, one: Raise | None = None) -> str:
        raised = replace(one or raise_(), decided_ms=self.clock.wall_ms())
        (incident,) = self.journal.commit(Batch(raises=(raised,))).opened
        return incident

    def updates(self) -> list[tuple[str, int]]:
        rows = self.journal.connection.execute("SELECT channel, part FROM outbox WHERE event = 'update' ORDER BY id")
        return [(row[0], row[1]) for row in rows.fetchall()]

    def acknowledge(self, incident: str) -> None:
        self.journal.acknowledge(incident, "lan", self.clock.wall_ms())

    def _directory(self) -> Directory:
        return Directory(responses={"p1": self.plan})

    def _wake(self) -> None:
        self.woken += 1


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "journal.db")
    yield made
    made.journal.close()


def test_nobody_acknowledges_for_thirty_seconds_and_everybody_is_told_again(bench: Bench) -> None:
    incident = bench.burn()
    process = bench.process()
    bench.clock.advance(29.0)
    assert process.look() == 0
    bench.clock.advance(1.0)
    assert process.look() == 1
    assert bench.updates() == [("arc", 1), ("cad", 1)]
    told = bench.journal.connection.execute("SELECT notice FROM outbox WHERE event = 'update' AND channel = 'arc'").fetchone()
    assert (notice_of(told[0]).escalated, notice_of(told[0]).incident) == (1, incident)
    assert story.told(bench.journal.connection, incident)[-1].kind == story.ESCALATED
    bench.clock.advance(90.0)
    assert process.look() == 1
    bench.clock.advance(3_600.0)
    assert process.look() == 0, "there is no third step: it goes on being shown as unanswered"
    assert len(bench.updates()) == 4


def test_a_plan_tells_its_own_people_in_its_own_order(bench: Bench) -> None:
    bench.plan = PLAN
    bench.burn()
    process = bench.process()
    bench.clock.advance(30.0)
    process.look()
    assert bench.updates() == [("cad", 1), ("phone", 1)]
    called = bench.journal.connection.execute("SELECT notice FROM outbox WHERE channel = 'phone' AND event = 'update'").fetchone()
    assert [one.name for one in notice_of(called[0]).numbers] == ["chủ nhà"]
    bench.clock.advance(60.0)
    process.look()
    assert bench.updates()[2:] == [("arc", 2)]


def test_one_acknowledgement_stops_it_on_every_channel(bench: Bench) -> None:
    incident = bench.burn()
    bench.clock.advance(10.0)
    bench.acknowledge(incident)
    bench.clock.advance(600.0)
    assert bench.process().look() == 0
    assert bench.updates() == []


def test_so_does_a_reset(bench: Bench) -> None:
    incident = bench.burn()
    bench.journal.reset(incident, ["sd-0001"], "lan", bench.clock.wall_ms())
    bench.clock.advance(600.0)
    assert bench.process().look() == 0


def test_it_goes_on_over_a_restart_and_a_clock_that_is_set_back_does_not_stop_it(bench: Bench) -> None:
    bench.burn()
    bench.clock.advance(20.0)
    bench.journal.close()
    bench.clock.now_ms -= 3_600_000.0
    bench.journal = bench.open()
    process = bench.process()
    bench.clock.advance(10.0)
    assert process.look() == 1
    bench.clock.advance(90.0)
    assert process.look() == 1


def test_two_processes_tell_each_step_once(bench: Bench) -> None:
    bench.burn()
    with closing(bench.open()) as other:
        one, two = bench.process(), bench.process(other)
        bench.clock.advance(31.0)
        assert one.look() + two.look() == 1
        bench.clock.advance(90.0)
        assert two.look() + one.look() == 1
    assert bench.updates() == [("arc", 1), ("cad", 1), ("arc", 2), ("cad", 2)]


def test_a_held_fire_is_escalated_from_its_release_on_and_not_before(bench: Bench) -> None:
    incident = bench.burn(replace(raise_(), hold=Hold(60.0, 0.0)))
    process = bench.process()
    bench.clock.advance(59.0)
    assert process.look() == 0
    bench.journal.commit(Batch(raises=(raise_(2),)))  # a call point: at once
    assert bench.updates() == []
    bench.clock.advance(29.0)
    assert process.look() == 0
    bench.clock.advance(1.0)
    assert process.look() == 1
    assert incident


def test_a_fire_that_is_acknowledged_while_it_is_held_is_not_escalated(bench: Bench) -> None:
    incident = bench.burn(replace(raise_(), hold=Hold(60.0, 60.0)))
    bench.acknowledge(incident)
    bench.journal.commit(Batch(raises=(raise_(2),)))
    bench.clock.advance(600.0)
    assert bench.process().look() == 0


def test_the_watchdog_sees_that_nobody_escalates_and_that_nobody_sends(bench: Bench) -> None:
    incident = bench.burn()
    connection = bench.journal.connection
    assert standing_still(connection, bench.journal.now()) == []
    bench.clock.advance(7.0)
    unserved = [f"{incident} alarm → {channel}: no process offers it" for channel in CHANNELS]
    assert standing_still(connection, bench.journal.now()) == unserved
    connection.execute("UPDATE outbox SET acknowledged_ms = 1")
    assert standing_still(connection, bench.journal.now()) == []
    bench.clock.advance(40.0)
    assert standing_still(connection, bench.journal.now()) == [f"{incident}: nobody escalates it"]
    bench.process().look()
    connection.execute("UPDATE outbox SET acknowledged_ms = 1")
    assert standing_still(connection, bench.journal.now()) == []


def test_a_receiver_that_refuses_is_no_standstill(bench: Bench) -> None:
    bench.burn()
    bench.clock.advance(60.0)
    now_ms = bench.clock.wall_ms()
    bench.journal.connection.execute("UPDATE outbox SET attempts = 9, next_at_ms = ?", (now_ms - 200.0,))
    assert [one for one in standing_still(bench.journal.connection, bench.journal.now()) if "offers" in one] == []


def test_on_either_database_a_step_is_told_and_the_next_is_timed(journal_place: Place) -> None:
    bench = Bench(journal_place)
    with closing(bench.journal):
        incident = bench.burn(replace(raise_(), answer_s=0.0))
        assert bench.process().look() == 1
        assert bench.process().look() == 0
        with bench.journal.writing() as connection:
            assert acts.acknowledge(connection, bench.journal.now(), incident, "lan", bench.clock.wall_ms())
        assert bench.journal.connection.execute("SELECT count(*) FROM timer WHERE kind = 'escalate'").fetchone()[0] == 0
