"""Holds: open, shown and durable at once; told when T1, T2, a call point or another device says so; never longer than may be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from iotcore.clock import ManualClock, Uptime
from iotcore.journal import acts, held, holds, story, timers
from iotcore.journal.database import Place
from iotcore.journal.journal import Journal
from iotcore.journal.posting import notice_of
from iotcore.journal.records import Batch, Committed, Hold, Raise
from tests.support.fire import notice, raise_

HOLD = Hold(t1_s=60.0, t2_s=180.0)


class Bench:
    """A journal whose time goes on when the test says so, on either database."""

    def __init__(self, place: Place) -> None:
        self.clock = ManualClock()
        uptime = Uptime("machine-1", self.clock.monotonic_s)
        self.journal = Journal(place, self.clock, ["arc", "cad"], "one", uptime)

    def pass_s(self, seconds: float) -> Committed:
        """Let time go on and release what is due. A server's time cannot be moved: its deadlines are, instead."""
        self.clock.advance(seconds)
        self.journal.connection.execute(
            "UPDATE timer SET wall_ms = wall_ms - ?, after_s = after_s + 1000.0 WHERE machine = ''", (seconds * 1000.0,)
        )
        return holds.release_due(self.journal, self.journal.now())

    def told(self) -> list[str]:
        return [row[0] for row in self.journal.connection.execute("SELECT event FROM outbox WHERE channel = 'arc' ORDER BY id")]

    def story(self, incident: str) -> list[tuple[str, str]]:
        return [(line.kind, line.detail) for line in story.told(self.journal.connection, incident)]


@pytest.fixture
def bench(journal_place: Place) -> Iterator[Bench]:
    bench = Bench(journal_place)
    with closing(bench.journal):
        yield bench


def held_raise(seq: int = 1, device: str = "sd-0001", hold: Hold | None = HOLD) -> Raise:
    return replace(raise_(seq, of=notice(device)), hold=hold)


def begin(bench: Bench) -> str:
    (incident,) = bench.journal.commit(Batch(raises=(held_raise(),))).opened
    return incident


@pytest.mark.parametrize(
    "exempt", [{"disabled": "D1"}, {"test": True, "walk": "W1"}, {"test": True}, {"historical": True}], ids=str
)
def test_a_second_detector_that_is_disabled_or_tested_ends_no_hold(bench: Bench, exempt: dict[str, Any]) -> None:
    begin(bench)
    bench.journal.commit(Batch(raises=(replace(held_raise(2, "sd-0002", None), **exempt),)))
    assert bench.told() == []
    bench.journal.commit(Batch(raises=(held_raise(3, "sd-0003"),)))
    assert bench.told() == ["alarm"]


def test_a_held_fire_is_open_at_once_and_told_when_nobody_acknowledged_in_t1(bench: Bench) -> None:
    incident = begin(bench)
    assert bench.told() == []
    assert bench.journal.connection.execute("SELECT state FROM incident").fetchone() == ("open",)
    assert bench.pass_s(59.0).released == ()
    released = bench.pass_s(1.5)
    assert released.released == (incident,)
    assert [(row.channel, row.notice.event) for row in released.leased] == [("arc", "alarm"), ("cad", "alarm")]
    assert bench.story(incident)[1:] == [(story.HELD, "T1 60 s, T2 180 s"), (story.RELEASED, held.NOBODY_CAME)]
    assert bench.pass_s(600.0).released == ()


def test_after_an_acknowledgement_it_is_told_when_nobody_reset_it_in_t2(bench: Bench) -> None:
    incident = begin(bench)
    bench.pass_s(30.0)
    assert bench.journal.acknowledge(incident, "an", bench.clock.wall_ms())
    assert bench.pass_s(170.0).released == ()
    assert bench.pass_s(11.0).released == (incident,)
    assert bench.story(incident)[-1] == (story.RELEASED, held.NOT_RESET)


def test_a_call_point_ends_the_wait_in_its_own_commit(bench: Bench) -> None:
    incident = begin(bench)
    committed = bench.journal.commit(Batch(raises=(held_raise(2, "mcp-1", None),)))
    assert (committed.released, [row.channel for row in committed.leased]) == ((incident,), ["arc", "cad"])
    assert bench.told() == ["alarm"]
    (kept,) = bench.journal.connection.execute("SELECT notice FROM outbox WHERE channel = 'arc'").fetchone()
    assert (notice_of(kept).device, notice_of(kept).points) == ("sd-0001", ("sd-0001/smoke", "mcp-1/smoke"))
    assert bench.pass_s(600.0).released == ()


def test_another_device_ends_the_wait_and_the_same_one_does_not(bench: Bench) -> None:
    incident = begin(bench)
    assert bench.journal.commit(Batch(raises=(held_raise(2),))).released == ()
    assert bench.told() == []
    assert bench.journal.commit(Batch(raises=(held_raise(3, "sd-0002"),))).released == (incident,)
    assert bench.story(incident)[-1] == (story.RELEASED, held.ANOTHER_DEVICE)


def test_a_reset_during_the_wait_tells_nobody_and_is_on_record(bench: Bench) -> None:
    incident = begin(bench)
    assert bench.journal.reset(incident, ["sd-0001"], "an", bench.clock.wall_ms())
    assert bench.pass_s(600.0).released == ()
    assert bench.told() == []
    assert [kind for kind, _ in bench.story(incident)][-2:] == [story.CANCELLED, story.RESET]


def test_an_owners_denial_does_not_end_the_wait_and_cancels_nothing(bench: Bench) -> None:
    incident = begin(bench)
    with bench.journal.writing() as connection:
        assert acts.owner_said(connection, incident, "denied", "chủ nhà", bench.clock.wall_ms())
    assert bench.told() == []
    assert bench.pass_s(61.0).released == (incident,)
    assert bench.told() == ["alarm"]


def test_no_plan_holds_a_fire_for_more_than_ten_minutes(bench: Bench) -> None:
    (incident,) = bench.journal.commit(Batch(raises=(held_raise(hold=Hold(550.0, 600.0)),))).opened
    bench.pass_s(549.0)
    assert bench.journal.acknowledge(incident, "an", bench.clock.wall_ms())
    assert bench.pass_s(51.0).released == (incident,)


def test_a_hold_whose_timer_is_lost_is_released(bench: Bench) -> None:
    incident = begin(bench)
    bench.journal.connection.execute("DELETE FROM timer")
    assert bench.pass_s(0.0).released == (incident,)
    assert bench.story(incident)[-1] == (story.RELEASED, held.OVERDUE)


def test_two_replicas_release_a_hold_once(bench: Bench, journal_place: Place) -> None:
    incident = begin(bench)
    with closing(
        Journal(journal_place, bench.clock, ["arc", "cad"], "two", Uptime("machine-1", bench.clock.monotonic_s))
    ) as other:
        bench.clock.advance(61.0)
        bench.journal.connection.execute("UPDATE timer SET wall_ms = wall_ms - 61000.0 WHERE machine = ''")
        first = holds.release_due(other, other.now())
        assert (first.released, len(first.leased)) == ((incident,), 2)
        assert holds.release_due(bench.journal, bench.journal.now()) == Committed(opened=())
    assert bench.told() == ["alarm"]


def test_a_hold_of_nothing_is_none(bench: Bench) -> None:
    bench.journal.commit(Batch(raises=(held_raise(hold=Hold(0.0, 60.0)),)))
    assert bench.told() == ["alarm"]


def test_how_long_until_the_next_is_over(bench: Bench) -> None:
    assert holds.next_due_s(bench.journal, bench.journal.now()) is None
    begin(bench)
    wait_s = holds.next_due_s(bench.journal, bench.journal.now())
    assert wait_s is not None
    assert 55.0 < wait_s <= 60.0


def test_on_a_server_its_own_clock_counts_whatever_the_processes_say(bench: Bench) -> None:
    begin(bench)
    future = timers.Now("machine-2", 0.0, bench.clock.wall_ms() + 86_400_000.0)
    is_file = bench.journal.connection.execute("SELECT machine FROM timer").fetchone() == ("machine-1",)
    assert bool(timers.due(bench.journal.connection, future, held.KINDS, 10)) is is_file
