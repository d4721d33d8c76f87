"""Silence in the real lane and journal: a fault and a trouble alarm at the limit, one for all who see it, over with a reading."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drivers.mqtt.canonical import decode
from iotcore.alarms.engine import Engine
from iotcore.alarms.lane import FireLane
from iotcore.alarms.supervise import LINK, LINK_DOWN
from iotcore.alarms.supervised import Supervised
from iotcore.clock import ManualClock, Uptime
from iotcore.journal.database import Place
from iotcore.journal.heard import NOTHING, Clocked, Heard, Stored
from iotcore.journal.journal import Journal
from iotcore.journal.records import Batch, Cleared
from iotcore.wire.arrival import Arrival
from tests.integration.test_fire_lane import RULES, Bench, directory
from tests.support.fire import NOON_MS, notice, raise_
from tests.support.until import until

SMOKE = {"smoke": 0.0, "temperature": 24.0}


class Watched(Bench):
    """A bench whose lane is supervised; `second` is another process over the same journal."""

    def restart(self) -> None:
        self.journal = Journal(self.folder / "journal.db", self.clock, ["arc"])
        self.lane = self.process(self.journal)
        self.lane.warm()

    def process(self, journal: Journal, by: str = "fire") -> FireLane:
        uptime = Uptime("m1", lambda: self.clock.elapsed_s + 500.0)
        return FireLane(
            broker=self.broker,
            decode=decode,
            directory=directory,
            engine=Engine(RULES),
            journal=journal,
            clock=self.clock,
            opened=lambda committed: self.opened.extend(committed.opened),
            first_seen=lambda _: asyncio.sleep(0),
            supervised=Supervised(journal, directory, self.clock, uptime, by=by),
        )

    async def wait(self, seconds: float, *, hears: bool = True, also: FireLane | None = None) -> None:
        for _ in range(int(seconds * 4)):
            self.clock.advance(0.25)
            await self.lane.supervise(hears=hears)
            await until(lambda: "journal_stalled" not in self.lane.state(), 30.0)  # a busy machine: here only real time helps
            if also is not None:
                await also.supervise(hears=hears)

    async def status(self, gateway: str, state: str) -> None:
        payload = f'{{"v":1,"state":"{state}"}}'.encode()
        topic = f"iot/v1/gateway/{gateway}/up/status/{gateway}"
        await self.lane.turn([Arrival(topic, payload, retained=True, received_ms=self.clock.wall_ms())])

    def troubles(self) -> list[tuple[Any, ...]]:
        return self.rows("SELECT device, rule, severity, state FROM alarm ORDER BY id")

    def faults(self, device: str) -> list[str]:
        found = self.rows(f"SELECT reason FROM fault WHERE device = '{device}' AND cleared_ms IS NULL ORDER BY reason")
        return [reason for (reason,) in found]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    yield made
    made.journal.close()


async def test_a_silent_detector_is_a_fault_and_a_trouble_alarm_until_it_is_heard(bench: Watched) -> None:
    await bench.wait(4.0)
    await bench.say("cp-1", {"pressed": False})
    await bench.wait(149.0)
    assert bench.faults("cp-1") == []
    await bench.wait(2.0)
    assert bench.faults("cp-1") == ["silent"]
    assert ("cp-1", "silent", "trouble", "active") in bench.troubles()
    ((notice,),) = bench.rows("SELECT notice FROM alarm WHERE device = 'cp-1'")
    assert '"address":"Đường Lê Hoàn, Thanh Hóa"' in notice
    assert '"reason":"silent"' in notice
    assert bench.opened == []
    await bench.say("cp-1", {"pressed": False})
    assert bench.faults("cp-1") == []
    assert ("cp-1", "silent", "trouble", "ended") in bench.troubles()
    assert bench.rows("SELECT reset_ms FROM alarm WHERE device = 'cp-1'") == [(bench.clock.wall_ms(),)]


async def test_it_is_trouble_at_its_limit_across_a_restart_too(bench: Watched) -> None:
    await bench.wait(4.0)
    for _ in range(3):
        await bench.say("sd-2", SMOKE)
        await bench.wait(9.0)
    await bench.wait(60.0)
    bench.journal.close()
    bench.clock.advance(3.0)
    bench.restart()
    await bench.wait(27.5)
    assert bench.faults("sd-2") == []
    await bench.wait(1.0)
    assert bench.faults("sd-2") == ["silent"]
    bench.journal.close()
    bench.restart()
    await bench.wait(5.0)
    assert bench.troubles().count(("sd-2", "silent", "trouble", "active")) == 1
    await bench.say("sd-2", SMOKE)
    assert bench.faults("sd-2") == []


async def test_two_processes_that_see_the_same_silence_make_one_trouble(bench: Watched) -> None:
    other_journal = Journal(bench.folder / "journal.db", bench.clock, ["arc"])
    other = bench.process(other_journal, "fire-2")
    other.warm()
    await bench.wait(4.0, also=other)
    arrival = await bench.say("sd-2", SMOKE)
    await other.turn([arrival])
    await bench.wait(102.0, also=other)
    assert bench.troubles().count(("sd-2", "silent", "trouble", "active")) == 1
    other_journal.close()


async def test_a_silence_latches_no_rule_so_that_a_fire_after_it_and_a_restart_is_raised(bench: Watched) -> None:
    await bench.wait(4.0)
    await bench.say("cp-1", {"pressed": True}, kind="event")
    assert len(bench.opened) == 1
    await bench.say("cp-1", {"pressed": False}, kind="event")
    assert bench.journal.reset(bench.opened[0], ["cp-1"], "duty", bench.clock.wall_ms())
    await bench.wait(160.0)
    assert bench.faults("cp-1") == ["silent"]
    bench.journal.close()
    bench.restart()
    await bench.wait(1.0)
    await bench.say("cp-1", {"pressed": True}, kind="event")
    assert len(bench.opened) == 2


async def test_our_own_link_that_is_down_is_the_only_trouble(bench: Watched) -> None:
    await bench.wait(4.0)
    await bench.say("sd-2", SMOKE)
    await bench.wait(300.0, hears=False)
    assert bench.troubles() == [(LINK, LINK_DOWN, "trouble", "active")]
    await bench.wait(5.0)
    assert bench.troubles() == [(LINK, LINK_DOWN, "trouble", "ended")]
    assert bench.faults("sd-2") == []


async def test_a_birth_is_no_sign_of_life_and_a_will_is_a_trouble_at_once(bench: Watched) -> None:
    await bench.wait(4.0)
    await bench.say("sd-2", SMOKE)
    await bench.wait(90.0)
    await bench.status("gw-1", "offline")
    assert bench.faults("sd-2") == ["offline"]
    await bench.status("gw-1", "online")
    await bench.wait(12.0)
    assert "silent" in bench.faults("sd-2")


def test_who_was_heard_when_is_kept_on_either_database(journal_place: Place) -> None:
    kept = Stored(
        (Heard("d1", "fire", 12.5, NOON_MS, "9f3c12ab", 2**40), Heard("d2", "fire-2", 3.0, NOON_MS, "", 0)),
        (Clocked("fire", "m1", 500.25, NOON_MS, 14.0), Clocked("fire-2", "", 7.0, NOON_MS, 4.0)),
    )
    with closing(Journal(journal_place, ManualClock(), ["arc"])) as journal:
        assert journal.heard() == NOTHING
        journal.commit(Batch(heard=kept))
        later = Heard("d1", "fire-2", 20.0, NOON_MS + 1000.0, "9f3c12ab", 2**40 + 1)
        journal.commit(Batch(heard=Stored((later,), (kept.clocks[0]._replace(listened_s=21.0),))))
        found = journal.heard()
    assert set(found.heard) == {later, kept.heard[1]}
    assert {clock.by: clock.listened_s for clock in found.clocks} == {"fire": 21.0, "fire-2": 4.0}


def test_a_silence_is_one_alarm_that_ends_and_comes_again_on_either_database(journal_place: Place) -> None:
    with closing(Journal(journal_place, ManualClock(), ["arc"])) as journal:
        silent = replace(raise_(of=notice("d1", rule="silent", severity="trouble")), latched=False)
        journal.commit(Batch(raises=(silent,), faults=(("d1", "silent"),)))
        assert journal.alarmed_devices() == set()
        journal.commit(Batch(cleared_alarms=(Cleared("d1", "silent", NOON_MS + 9_000.0),), cleared=(("d1", "silent"),)))
        assert journal.connection.execute("SELECT state FROM alarm").fetchall() == [("ended",)]
        assert journal.standing_faults() == []
