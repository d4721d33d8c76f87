"""When a drill is due, what it waits for and what becomes of it, by the journal's own clocks, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from itertools import count

import msgspec
import pytest

from iotcore.clock import ManualClock, Uptime
from iotcore.journal import drill_times, drills
from iotcore.journal.database import Place
from iotcore.journal.drill_store import AT_ONCE, GRACE_S, HEARD_S, LEASE_MS, PRESS_S, Ask, SqlDrills, Way, Work
from iotcore.journal.drills import Drill
from iotcore.journal.records import Batch, Notice, Tried
from iotcore.registry.directory import InTest
from iotcore.schedule import ZONE
from tests.support.fire_journal import FireJournal

MORNING_MS = datetime(2026, 11, 23, 8, 0, tzinfo=ZONE).timestamp() * 1000.0
DAY_S = 86_400.0
WAYS = (Way("arc", "arc"), Way("arc", "arc-2"))


class Site:
    """A journal, its drills, and a hand that does what the fire process does."""

    def __init__(self, place: Place) -> None:
        self.clock = ManualClock(MORNING_MS)
        self.fire = FireJournal(place, self.clock, Uptime("machine-1", self.clock.monotonic_s))
        self.drills = SqlDrills(self.fire.journal)
        self._numbers = count(1)

    def pass_s(self, seconds: float) -> None:
        """Time passes; for the timers on a server, which has a clock of its own, by as much."""
        self.clock.advance(seconds)
        with self.fire.journal.writing() as connection:
            connection.execute("UPDATE timer SET wall_ms = wall_ms - ? WHERE machine = ''", (seconds * 1000.0,))

    def ask(self, premises: str, device: str = "d1") -> Ask:
        return Ask(f"D{next(self._numbers)}", premises, drills.SCHEDULE, "simulated", device, "alarm", "true")

    def begin_due(self) -> list[str]:
        """What the scheduler does at each look: the premises that it began."""
        return [one for one in self.drills.due() if self.drills.begin(self.ask(one))]

    def hear(self, id_: str, device: str = "d1", *, alarm: bool = True) -> tuple[str, ...]:
        """The lane's commit of what a drill said; the ids that it kept."""
        now_ms = self.clock.wall_ms()
        told = notice(now_ms) if alarm else None
        committed = self.fire.journal.commit(Batch(drills=(Tried(id_, device, told, now_ms - 9.0, now_ms, now_ms + 0.2),)))
        self.fire.journal.note_drills(committed.drills, now_ms + 1.5)
        return committed.drills

    def take(self, path: str) -> Work:
        work = self.drills.next(path)
        assert work is not None
        return work

    def newest(self, premises: str = "p1") -> Drill:
        with self.fire.journal.reading() as connection:
            return drills.of_premises(connection, premises, 1)[0]

    def faults(self) -> list[tuple[str, str]]:
        """The faults that stand, which are the trouble alarms that do."""
        faults = self.fire.journal.standing_faults()
        with self.fire.journal.reading() as connection:
            alarms = connection.execute(
                "SELECT device, rule FROM alarm WHERE state = 'active' AND severity = 'trouble'"
            ).fetchall()
        assert [tuple(one) for one in alarms] == faults
        return faults


def notice(at_ms: float) -> Notice:
    return Notice(
        incident="", event="alarm", hazard="smoke", severity="alarm", premises="p1", premises_name="Chợ Vườn Hoa", address="",
        latitude=19.8, longitude=105.77, account="A001", zone="z1", zone_number=3, zone_name="", floor="2", device="d1",
        point="alarm", value=True, unit="", rule="detector-alarm", reason="active", occurred_ms=at_ms,
    )  # fmt: skip


def trouble(premises: str, at_ms: float) -> Notice:
    made = msgspec.structs.replace(notice(at_ms), device=f"drill:{premises}", premises=premises, point="", severity="trouble")
    return msgspec.structs.replace(made, rule="drill_missed", reason="drill_missed")


@pytest.fixture
def site(journal_place: Place) -> Iterator[Site]:
    site = Site(journal_place)
    with closing(site.fire):
        yield site


def until_due(site: Site, premises: str = "p1") -> None:
    """Wait for the minute of a premises."""
    site.pass_s((drill_times.slot_ms(premises, site.clock.wall_ms()) - site.clock.wall_ms()) / 1000.0)


def ran(site: Site) -> str:
    """A drill that is due was begun, heard and posted; its id."""
    until_due(site)
    assert site.begin_due() == ["p1"]
    id_ = site.newest().id
    assert site.hear(id_) == (id_,)
    assert [one.id for one in site.drills.heard()] == [id_]
    assert site.drills.post(id_, WAYS)
    return id_


def test_a_drill_passes_when_each_path_has_acknowledged_and_is_due_again_in_so_many_days(site: Site) -> None:
    site.drills.follow({"p1": 30})
    assert site.begin_due() == []  # not its minute yet
    id_ = ran(site)
    for path in ("arc", "arc-2"):
        work = site.take(path)
        assert (work.row.notice.event, work.row.notice.purpose, work.row.notice.incident) == ("test", "test", id_)
        assert site.drills.next(path) is None  # leased: nobody else sends it
        site.drills.sent(work, site.clock.wall_ms())
        assert site.drills.finish() == []
        site.pass_s(0.02)
        site.drills.acknowledged(work, site.clock.wall_ms())
    (done,) = site.drills.finish()
    assert (done.state, done.reason, done.source, done.due_ms) == ("passed", "", "simulated", done.asked_ms)
    assert done.latency_ms == pytest.approx(10.5)
    assert [one.path for one in done.deliveries] == ["arc", "arc-2"]
    assert [done.delivered_ms(one) for one in done.deliveries] == pytest.approx([29.0, 49.0])
    site.pass_s(29 * DAY_S)
    assert site.begin_due() == []
    site.pass_s(DAY_S)
    assert site.begin_due() == ["p1"]


def test_a_path_that_does_not_answer_within_100_seconds_fails_the_drill_by_its_name(site: Site) -> None:
    site.drills.follow({"p1": 30})
    ran(site)
    site.drills.acknowledged(site.take("arc"), site.clock.wall_ms())
    site.drills.refused(site.take("arc-2"), "connection refused", site.clock.wall_ms() + 10_000.0)
    assert site.drills.next("arc-2") is None  # it rests
    site.pass_s(10.0)
    site.drills.refused(site.take("arc-2"), "connection refused", site.clock.wall_ms() + 10_000.0)
    assert site.drills.finish() == []
    site.pass_s(HEARD_S)
    (done,) = site.drills.finish()
    assert (done.state, done.reason) == ("failed", "arc by arc-2: connection refused")
    assert site.begin_due() == []
    site.pass_s(drill_times.RETRY_S)
    assert site.begin_due() == ["p1"]  # within the hour after


def test_what_comes_twice_or_from_two_keepers_is_one_drill(site: Site) -> None:
    site.drills.follow({"p1": 30})
    until_due(site)
    premises = site.drills.due()
    assert [site.drills.begin(site.ask(one)) for one in premises * 2] == [True, False]
    id_ = site.newest().id
    assert site.hear(id_) == (id_,)
    site.pass_s(0.5)
    assert site.hear(id_) == ()
    assert site.newest().received_ms == site.clock.wall_ms() - 500.0
    assert site.drills.post(id_, WAYS)
    assert not site.drills.post(id_, WAYS)
    assert len(site.newest().deliveries) == 2
    assert site.fire.journal.open_incidents() == []


def test_a_drill_of_another_device_than_the_one_that_was_asked_for_is_not_taken(site: Site) -> None:
    site.drills.ask(site.ask("p1"))
    assert site.hear(site.newest().id, "d9") == ()
    assert site.newest().received_ms is None


def test_a_drill_that_nobody_hears_or_that_no_rule_calls_a_fire_fails(site: Site) -> None:
    site.drills.ask(site.ask("p1"))
    site.pass_s(HEARD_S)
    assert [(one.state, one.reason) for one in site.drills.finish()] == [("failed", "not_heard")]
    site.drills.ask(site.ask("p1"))
    site.hear(site.newest().id, alarm=False)
    assert (site.newest().state, site.newest().reason) == ("failed", "no_alarm")
    site.drills.ask(site.ask("p1"))
    site.hear(site.newest().id)
    site.drills.post(site.newest().id, ())
    assert (site.newest().state, site.newest().reason) == ("failed", "no_receiver")
    site.drills.ask(site.ask("p1", device=""))
    assert (site.newest().state, site.newest().reason) == ("failed", "no_alarm_point")


def test_a_drill_gives_way_to_a_fire_at_its_premises_wherever_it_is(site: Site) -> None:
    site.drills.follow({"p1": 30})
    incident = site.fire.burn()
    until_due(site)
    assert site.begin_due() == []  # put off, and tried again
    assert "burning" in site.drills.ask(site.ask("p1"))
    site.fire.journal.reset(incident, ["d1"], "lan", site.clock.wall_ms())
    site.pass_s(drill_times.RETRY_S)
    assert site.begin_due() == ["p1"]
    first = site.fire.burn()
    assert site.hear(site.newest().id) == (site.newest().id,)
    assert (site.newest().state, site.newest().reason) == ("put_off", f"burning: {first}")
    assert site.drills.heard() == []
    site.fire.journal.reset(first, ["d1"], "lan", site.clock.wall_ms())
    site.pass_s(drill_times.RETRY_S)
    assert site.begin_due() == ["p1"]
    site.hear(site.newest().id)
    site.drills.post(site.newest().id, WAYS)
    second = site.fire.burn()
    assert site.drills.next("arc") is None  # what is not sent yet is not sent
    assert [(one.state, one.reason) for one in site.drills.finish()] == [("put_off", f"burning: {second}")]
    assert site.faults() == []


def test_a_drill_that_is_due_for_a_day_and_did_not_pass_is_missed_and_a_trouble_until_one_passes(site: Site) -> None:
    site.drills.follow({"p1": 30})
    until_due(site)
    due_ms = site.clock.wall_ms()
    runs = 0
    while site.clock.wall_ms() - due_ms < GRACE_S * 1000.0:
        assert site.drills.miss(trouble) == []
        runs += len(site.begin_due())
        site.pass_s(HEARD_S)
        site.drills.finish()
        site.pass_s(500.0)
    assert site.drills.miss(trouble) == ["p1"]
    assert site.faults() == [("drill:p1", "drill_missed")]
    assert 4 <= runs <= 10  # hourly, by day alone
    missed = site.newest()
    assert (missed.state, missed.reason, missed.due_ms) == ("missed", "not_heard", due_ms)
    assert site.drills.miss(trouble) == []
    begun = 0
    for _ in range(48):  # from now on once a day
        site.pass_s(3600.0)
        begun += len(site.begin_due())
        site.drills.finish()
    assert begun <= 3
    site.pass_s(HEARD_S)
    site.drills.finish()
    assert site.faults() == [("drill:p1", "drill_missed")]
    assert site.drills.ask(site.ask("p1")) == ""
    site.hear(site.newest().id)
    site.drills.post(site.newest().id, WAYS[:1])
    site.drills.acknowledged(site.take("arc"), site.clock.wall_ms())
    site.drills.finish()
    assert site.newest().state == "passed"
    assert site.faults() == []


def test_a_plan_that_wants_no_drills_any_more_ends_their_trouble(site: Site) -> None:
    site.drills.follow({"p1": 1})
    until_due(site)
    site.begin_due()
    site.pass_s(GRACE_S)
    site.drills.finish()
    assert site.drills.miss(trouble) == ["p1"]
    site.drills.follow({})
    assert site.faults() == []
    site.pass_s(3 * DAY_S)
    assert site.begin_due() == []


def test_a_clock_set_forward_or_back_begins_no_storm(site: Site) -> None:
    """A start of the machine is known: no step of its clock moves what is due, and what is due is begun a few at a time."""
    machine = SqlDrills(site.fire.journal)
    machine.follow({f"p{number}": 30 for number in range(100)})
    site.clock.now_ms += 365 * DAY_S * 1000.0
    assert machine.due() == []
    site.clock.now_ms -= 2 * 365 * DAY_S * 1000.0
    assert machine.due() == []
    site.clock.now_ms += 365 * DAY_S * 1000.0
    site.pass_s(9 * 3600.0 - 1.0)
    assert len(machine.due()) == AT_ONCE
    assert [machine.begin(site.ask(one)) for one in machine.due()] == [True] * AT_ONCE
    assert machine.due() == []
    assert machine.miss(trouble) == []


def test_a_real_drill_is_the_test_alarm_of_a_detector_that_somebody_presses_in_ten_minutes(site: Site) -> None:
    assert site.drills.ask(Ask("R1", "p1", "lan", "real")) == ""
    assert "waits" in site.drills.ask(site.ask("p1"))
    site.pass_s(PRESS_S - 1.0)
    assert site.drills.finish() == []
    site.fire.burn("p2", "d7", test=True)
    assert site.newest().received_ms is None  # of another premises
    now_ms = site.clock.wall_ms()
    mode = InTest(int(now_ms) - 1000, int(now_ms) + 1000, "lan")
    site.fire.burn("p1", "d2", test=True, in_test=mode)
    pressed = site.newest()
    assert (pressed.device, pressed.point, pressed.received_ms) == ("d2", "smoke", now_ms)
    site.fire.burn("p1", "d3", test=True)
    assert site.newest().device == "d2"
    assert [one.id for one in site.drills.heard()] == ["R1"]
    assert site.drills.post("R1", WAYS[:1])
    assert site.take("arc").row.notice.event == "test"
    assert site.fire.journal.open_incidents() == []


def test_a_real_drill_that_nobody_presses_for_fails(site: Site) -> None:
    site.drills.ask(Ask("R1", "p1", "lan", "real"))
    site.pass_s(PRESS_S)
    assert [(one.state, one.reason) for one in site.drills.finish()] == [("failed", "not_pressed")]


def test_devices_are_tried_in_turn_the_one_of_longest_ago_first(site: Site) -> None:
    for device in ("d1", "d2", "d1", "d3"):
        site.drills.ask(site.ask("p1", device))
        site.pass_s(HEARD_S)
        site.drills.finish()
    assert list(site.drills.tried("p1")) == ["d2", "d1", "d3"]


def test_a_drill_that_was_heard_at_the_last_moment_is_still_posted_and_never_passes_without_an_answer(site: Site) -> None:
    site.drills.ask(site.ask("p1"))
    id_ = site.newest().id
    site.pass_s(HEARD_S - 0.1)
    site.hear(id_)
    site.pass_s(0.2)
    assert site.drills.finish() == []
    assert site.drills.post(id_, WAYS[:1])
    site.pass_s(HEARD_S)
    assert [(one.state, one.reason) for one in site.drills.finish()] == [("failed", "arc by arc: no_reply")]


def test_a_process_that_died_with_a_delivery_is_followed_by_another_one(site: Site) -> None:
    site.drills.ask(site.ask("p1"))
    site.hear(site.newest().id)
    site.drills.post(site.newest().id, WAYS[:1])
    assert site.take("arc").row.number == 1
    site.pass_s(LEASE_MS / 1000.0)
    assert site.take("arc").row.number == 1  # what is said again has the number that it had
