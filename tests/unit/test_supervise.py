"""Silence is trouble at its limit, whatever restarts, reboots or jumps meanwhile; our own outage is nobody's silence."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from msgspec import structs

from iotcore.alarms.supervise import BY_GATEWAY, DEAF_S, LINK, LINK_DOWN, NEVER, SAVE_AT_ONCE, SILENT, Supervision
from iotcore.clock import ManualClock
from iotcore.journal.heard import Clocked, Heard, Stored
from iotcore.journal.journal import Journal
from iotcore.journal.records import Batch
from iotcore.registry.directory import Directory
from tests.support.fire import reading
from tests.support.shipped import SPECS
from tests.support.silence import SLEEPER, SMOKE, Watch, binding


def test_a_device_is_silent_at_its_limit_and_heard_again_with_its_next_reading() -> None:
    watch = Watch(binding("d1"))
    watch.say("d1")
    watch.until_s(102.0)
    assert watch.told == []
    watch.until_s(110.0)
    assert 103.0 <= watch.when("d1")[SILENT] <= 104.0
    assert watch.supervision.silent == ["d1"]
    assert (watch.silences[0].boot, watch.silences[0].seq) == ("b1", 1)
    watch.say("d1")
    assert watch.when("d1")["-silent"] == watch.at_s
    assert watch.supervision.silent == []
    watch.wait(99.0)
    assert len(watch.told) == 2
    watch.wait(2.0)
    assert [what for _, _, what in watch.told] == [SILENT, "-silent", SILENT]


def test_the_limit_is_that_of_the_spec_and_says_honestly_who_is_weakly_supervised() -> None:
    assert SMOKE.silence_limit_s == 100.0
    assert SPECS["iotcore-call-point"].silence_limit_s == 150.0
    assert SLEEPER.silence_limit_s == 216_000.0
    assert structs.replace(SMOKE, silence_s=12.0).silence_limit_s == 12.0
    watch = Watch(binding("d1"), binding("d2", spec=SLEEPER), binding("d3", spec=SLEEPER, state="suspended"))
    assert watch.supervision.weak == {"d2"}


def test_a_device_that_was_silent_for_80_s_before_the_restart_is_trouble_20_s_after_it() -> None:
    watch = Watch(binding("d1"), binding("d2"))
    watch.say("d1")
    for _ in range(16):
        watch.wait(5.0)
        watch.say("d2")
    watch.kill(2.0)
    watch.until_s(102.5)
    assert watch.told == []
    watch.wait(2.0)
    assert list(watch.when("d1")) == [SILENT]
    assert watch.when("d2") == {}


def test_the_restart_of_the_machine_is_our_outage_and_what_was_silent_before_it_counts_on() -> None:
    watch = Watch(binding("d1"), binding("d2"))
    watch.say("d1")
    for _ in range(16):
        watch.wait(5.0)
        watch.say("d2")
    watch.kill(180.0, reboot=True)
    watch.wait(18.0)
    assert watch.told == []
    watch.say("d2")
    watch.wait(4.0)
    assert [device for _, device, _ in watch.told] == ["d1"]


def test_a_clock_step_of_an_hour_changes_nothing() -> None:
    for step_s in (3_600.0, -3_600.0):
        watch = Watch(binding("d1"), binding("d2"))
        watch.say("d1")
        watch.wait(30.0)
        watch.wall_ms += step_s * 1000.0
        watch.say("d2")
        watch.until_s(80.0)
        watch.say("d2")
        watch.kill(2.0, step_s=step_s)
        watch.until_s(102.0)
        assert watch.told == []
        watch.until_s(104.5)
        assert list(watch.when("d1")) == [SILENT]
        assert watch.when("d2") == {}


def test_a_step_just_before_the_restart_errs_early_and_never_late() -> None:
    watch = Watch(binding("d1"))
    watch.say("d1")
    watch.wait(50.0)
    watch.wall_ms += 3_600_000.0
    watch.say("d1")  # not written down: the last was less than a minute ago
    watch.kill(2.0)
    watch.until_s(103.0 + 50.0 + 1.0)
    assert list(watch.when("d1")) == [SILENT]


def test_what_the_broker_kept_while_the_process_was_down_comes_before_any_judgement() -> None:
    watch = Watch(binding("d1", spec=structs.replace(SMOKE, silence_s=11.0)))
    watch.say("d1")
    watch.wait(9.0)
    watch.kill(4.0)
    watch.wait(1.0)
    watch.say("d1")
    watch.wait(5.0)
    assert watch.told == []


def test_an_outage_of_our_own_link_is_its_trouble_and_nobodys_silence() -> None:
    watch = Watch(*(binding(f"d{i}") for i in range(50)))
    watch.say("d0")
    watch.wait(20.0)
    for i in range(1, 50):
        watch.say(f"d{i}")
    watch.hears = False
    watch.wait(600.0)
    assert [(device, what) for _, device, what in watch.told] == [(LINK, LINK_DOWN)]
    assert DEAF_S <= watch.when(LINK)[LINK_DOWN] - 23.0 <= DEAF_S + 1.0
    watch.hears = True
    watch.wait(1.0)
    assert "-link_down" in watch.when(LINK)
    for i in range(1, 50):
        watch.say(f"d{i}")
    watch.wait(78.0)
    assert len(watch.told) == 2
    watch.wait(5.0)
    assert [device for _, device, what in watch.told if what == SILENT] == ["d0"]


def test_a_process_that_stood_still_was_deaf() -> None:
    watch = Watch(binding("d1"), binding("d2"))
    watch.say("d1")
    watch.pass_(300.0)
    watch.say("d2")
    watch.wait(99.0)
    assert watch.told == []
    watch.wait(5.0)
    assert {device for _, device, _ in watch.told} == {"d1", "d2"}


def test_backlog_counts_as_heard_only_by_its_age() -> None:
    watch = Watch(binding("d1"))
    watch.say("d1")
    watch.wait(90.0)
    watch.say("d1", age_s=60.0)
    watch.wait(60.0)
    assert SILENT in watch.when("d1")
    watch.say("d1", age_s=200.0)
    assert "-silent" not in watch.when("d1")
    watch.say("d1", age_s=5.0)
    assert "-silent" in watch.when("d1")


def test_a_driver_that_only_tells_that_its_unit_does_not_answer_is_not_the_unit() -> None:
    watch = Watch(binding("u1", parent="gw"), binding("u2", parent="gw"))
    for _ in range(12):
        watch.say("u1", smoke=None, temperature=None)
        watch.say("u2")
        watch.wait(10.0)
    assert [(device, what) for _, device, what in watch.told] == [("u1", SILENT)]


def test_a_silent_gateway_is_one_trouble_and_its_children_are_marked_by_cause() -> None:
    watch = Watch(binding("d0"), *(binding(f"u{i}", parent="gw") for i in range(20)))
    for i in range(20):
        watch.say(f"u{i}")
        watch.wait(0.5)
    for _ in range(12):
        watch.say("d0")
        watch.wait(10.0)
    assert [one.device for one in watch.silences if one.reason == SILENT] == ["gw"]
    assert sorted(one.device for one in watch.silences if one.reason == BY_GATEWAY) == sorted(f"u{i}" for i in range(20))
    assert watch.silences[0].device == "gw"
    assert watch.supervision.silent == sorted(["gw", *(f"u{i}" for i in range(20))])
    watch.say("u3")
    assert "-silent" in watch.when("gw")
    for _ in range(4):
        for i in range(19):
            watch.say(f"u{i}")
        watch.wait(10.0)
    assert watch.supervision.silent == ["u19"]
    assert watch.when("u19")[SILENT] >= watch.when("u19")["-gateway_silent"]


def test_a_unit_that_stays_silent_behind_a_gateway_that_talks_is_silent_by_itself() -> None:
    watch = Watch(binding("u1", parent="gw"), binding("u2", parent="gw"))
    watch.say("u1")
    for _ in range(12):
        watch.say("u2")
        watch.wait(10.0)
    assert [(one.device, one.reason) for one in watch.silences] == [("u1", SILENT)]


def test_an_enrolled_device_that_never_said_anything_is_told_after_a_day_and_is_no_trouble_before() -> None:
    watch = Watch(binding("d1", state="provisioned"), binding("d2", state="registered"))
    watch.wait(3_600.0)
    watch.kill(5.0)
    watch.wait(86_400.0 - 3_700.0)
    assert watch.told == []
    watch.wait(200.0)
    assert [(device, what) for _, device, what in watch.told] == [("d1", NEVER)]
    watch.say("d1")
    watch.register(binding("d1"))
    assert "-never_heard" in watch.when("d1")
    watch.wait(101.0)
    assert list(watch.when("d1")) == [NEVER, "-never_heard", SILENT]


def test_who_is_suspended_or_gone_is_waited_for_no_more() -> None:
    watch = Watch(binding("d1"), binding("d2"))
    watch.wait(110.0)
    assert {device for _, device, what in watch.told if what == SILENT} == {"d1", "d2"}
    watch.register(binding("d1", state="suspended"))
    watch.wait(1.0)
    assert watch.supervision.silent == []
    watch.wait(300.0)
    assert len(watch.told) == 4


def test_a_silence_that_stood_before_the_restart_is_told_once_and_ends_after_it() -> None:
    watch = Watch(binding("d1"), binding("d2"))
    watch.wait(110.0)
    assert len(watch.told) == 2
    watch.kill(1.0)
    watch.wait(200.0)
    assert len(watch.told) == 2
    watch.say("d1")
    assert watch.told[-1][1:] == ("d1", "-silent")
    watch.directory = Directory({"d1": binding("d1")})
    watch.kill(1.0)
    watch.wait(1.0)
    assert watch.told[-1][1:] == ("d2", "-silent")


def test_a_device_is_written_down_at_most_once_a_minute_and_a_new_city_in_portions() -> None:
    watch = Watch(binding("d1"))
    rows = 0
    for i in range(300):
        watch.pass_(1.0)
        said = structs.replace(reading("d1", i + 10, smoke=0.01), received_ms=watch.wall_ms)
        watch.supervision.heard(said, watch.directory.devices["d1"], watch.now_s)
        rows += len(watch.supervision.take_heard(watch._moment(), watch.now_s).heard)
    assert rows == 5
    many = Directory({f"d{i}": binding(f"d{i}") for i in range(SAVE_AT_ONCE + 10)})
    fresh = Supervision(many, Stored(), (), watch._moment(), watch.now_s)
    assert len(fresh.take_heard(watch._moment(), watch.now_s).heard) == SAVE_AT_ONCE
    assert fresh.is_due(watch.now_s)
    assert len(fresh.take_heard(watch._moment(), watch.now_s).heard) == 10
    assert not fresh.is_due(watch.now_s)


def test_of_a_device_that_is_registered_no_more_nothing_is_kept_and_of_a_suspended_one_it_is() -> None:
    watch = Watch(binding("d1"), binding("d2"), binding("d3"))
    for name in ("d1", "d2", "d3"):
        watch.say(name)
    assert watch.supervision.take_heard(watch._moment(), watch.now_s).gone == ()
    watch.supervision.follow(Directory({"d2": binding("d2", state="suspended"), "d3": binding("d3")}), watch.now_s)
    assert watch.supervision.take_heard(watch._moment(), watch.now_s).gone == ("d1",)
    assert watch.supervision.take_heard(watch._moment(), watch.now_s).gone == (), "once"
    watch.supervision.follow(Directory({"d3": binding("d3")}), watch.now_s)
    watch.supervision.follow(Directory({"d2": binding("d2"), "d3": binding("d3")}), watch.now_s)
    assert watch.supervision.take_heard(watch._moment(), watch.now_s).gone == (), "it is back"


def test_what_was_kept_of_a_device_that_was_removed_while_nobody_ran_is_forgotten() -> None:
    watch = Watch(binding("d1"), binding("d2"))
    stored = Stored((Heard("d1", "fire", 1.0, 1.0, "b1", 1),), (Clocked("fire", "m", 1.0, 1.0, 1.0),))
    fresh = Supervision(Directory({"d2": binding("d2")}), stored, (), watch._moment(), watch.now_s)
    assert fresh.take_heard(watch._moment(), watch.now_s).gone == ("d1",)


def test_who_is_gone_is_deleted_with_the_next_commit(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "journal.db", ManualClock(), ["arc"])) as journal:
        rows = tuple(Heard(name, "fire", 1.0, 1.0, "b1", 1) for name in ("d1", "d2"))
        journal.commit(Batch(heard=Stored(rows, (Clocked("fire", "m", 1.0, 1.0, 1.0),))))
        journal.commit(Batch(heard=Stored(gone=("d1",))))
        assert [one.device for one in journal.heard().heard] == ["d2"]
