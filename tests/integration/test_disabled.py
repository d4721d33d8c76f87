"""What is out of service is recorded and goes to nobody; when that is over, what still burns fires, once, whoever died."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from iotcore.registry.directory import Target
from iotcore.registry.disablements import MINUTE_MS
from tests.support.outage_site import CALM, SMOKE, Site, outage_site
from tests.support.shipped import SPECS

DEVICE, ZONE, PREMISES = Target("device", "d1"), Target("zone", "p1-z1"), Target("premises", "p1")
PRESSED = {"pressed": True}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with outage_site(tmp_path) as found:
        yield found


async def disable(site: Site, target: Target = DEVICE, minutes: int = 10, *, second_person: bool = False) -> str:
    made = await site.out.disable(target, minutes * MINUTE_MS, "bảo trì", "lan", SPECS, second_person=second_person)
    await site.look()
    return made.id


@pytest.mark.parametrize("target", [Target("point", "d1", "alarm"), DEVICE, ZONE, PREMISES], ids=lambda one: one.kind)
async def test_a_fire_of_what_is_disabled_is_recorded_and_goes_to_nobody(site: Site, target: Target) -> None:
    await disable(site, target)
    await site.say("d1", {"alarm": True})
    assert site.alarms() == [("d1", "disabled")]
    assert site.incidents() == []
    assert site.told() == []
    await site.say("d2", SMOKE)
    assert len(site.incidents()) == 1, "another premises is live"
    await site.say("d1", {"battery": 3.0})
    await site.say("d1", {"battery": 3.0})
    assert ("battery-low", "active") in site.rows("SELECT rule, state FROM alarm"), "maintenance never masks trouble"


async def test_the_other_point_of_a_device_is_live_and_so_is_what_nobody_has_confirmed(site: Site) -> None:
    await disable(site, Target("point", "d1", "smoke"))
    await disable(site, PREMISES, second_person=True)
    await site.say("d1", {"alarm": True})
    assert site.alarms() == [("d1", "active")]
    assert len(site.incidents()) == 1


async def test_what_still_burns_when_it_expires_fires_once(site: Site) -> None:
    await disable(site)
    await site.say("d1", SMOKE)
    site.clock.advance(598.0)
    await site.look()
    assert site.incidents() == []
    site.clock.advance(2.0)
    await site.look()
    (incident,) = site.incidents()
    assert site.told() == [(incident, "alarm")]
    for _ in range(3):
        await site.look()
    assert site.fire.opened == [incident]
    assert ("d1", "active") in site.alarms()
    assert ("d1", "disabled") not in site.alarms()


async def test_what_is_lifted_fires_at_the_next_look_and_a_device_that_was_calm_can_fire_again(site: Site) -> None:
    name = await disable(site)
    await site.say("d1", SMOKE)
    assert await site.out.lift(name, "lan")
    await site.look()
    assert len(site.incidents()) == 1
    second = await disable(site, Target("device", "d2"))
    await site.say("d2", CALM)
    assert await site.out.lift(second, "lan")
    await site.look()
    await site.say("d2", SMOKE)
    assert len(site.incidents()) == 2


@pytest.mark.parametrize("lifted", [False, True])
async def test_a_process_that_was_dead_when_it_was_over_fires_after_its_restart(site: Site, lifted: bool) -> None:  # noqa: FBT001 a case
    name = await disable(site)
    await site.say("d1", SMOKE)
    site.stop()
    if lifted:
        await site.out.lift(name, "lan")
    else:
        site.clock.advance(3600.0)
    await site.follower.refresh()
    site.start()
    await site.look()
    assert len(site.incidents()) == 1


async def test_a_death_between_the_raise_and_its_note_makes_no_second_incident(site: Site) -> None:
    name = await disable(site)
    await site.say("d1", SMOKE)
    await site.out.lift(name, "lan")
    await site.look()
    (incident,) = site.incidents()
    site.fire.journal.connection.execute("UPDATE alarm SET state = 'disabled' WHERE state = 'released'")
    site.start()
    await site.look()
    assert site.incidents() == [incident]
    assert site.told() == [(incident, "alarm")]


async def test_two_fire_processes_make_one_incident_of_it(site: Site) -> None:
    site.start(2)
    name = await disable(site)
    await site.say("d1", SMOKE)
    await site.out.lift(name, "lan")
    await site.look()
    assert len(site.incidents()) == 1
    assert len(site.told()) == 1


async def test_a_clock_that_is_set_back_does_not_make_it_last_longer(site: Site) -> None:
    await disable(site)
    await site.say("d1", SMOKE)
    site.clock.now_ms -= 3_600_000.0
    site.clock.advance(600.0)
    await site.look()
    assert len(site.incidents()) == 1
    await site.say("d1", CALM)
    await site.say("d2", SMOKE)
    assert len(site.incidents()) == 2


async def test_what_two_things_disable_is_live_when_both_are_over(site: Site) -> None:
    zone, device = await disable(site, ZONE), await disable(site, DEVICE)
    await site.say("d1", SMOKE)
    await site.out.lift(zone, "lan")
    await site.look()
    assert site.incidents() == []
    await site.out.lift(device, "lan")
    await site.look()
    assert len(site.incidents()) == 1


async def test_what_is_disabled_or_in_walk_test_bears_nothing_out_until_it_is_in_service_again(site: Site) -> None:
    def counts(*, immediate: bool = False) -> bool:
        return not site.fire.engine.places.excused("d1", "alarm", site.clock.wall_ms(), immediate)

    assert counts()
    name = await disable(site, ZONE)
    assert not counts()
    assert not counts(immediate=True)
    await site.out.lift(name, "lan")
    await site.walks.start("p1", "", 10 * MINUTE_MS, "lan")
    await site.look()
    assert not counts()
    assert counts(immediate=True), "a hand on a call point is no test"
    site.clock.advance(600.0)
    await site.look()
    assert counts()


async def test_in_a_walk_test_a_detector_proves_itself_and_a_call_point_and_the_next_zone_are_live(site: Site) -> None:
    walk = await site.walks.start("p1", "p1-z1", 30 * MINUTE_MS, "lan")
    await site.look()
    await site.say("d1", {"alarm": True})
    assert site.alarms() == [("d1", "walk")]
    assert site.incidents() == []
    assert site.rows("SELECT device, by, point, incident, proves, mode_ms FROM test_alarm") == [
        ("d1", "lan", "alarm", None, 1, float(walk.started_ms))
    ]
    await site.say("d2", {"alarm": True})
    assert len(site.incidents()) == 1, "another place"
    await site.say("cp-1", PRESSED)
    assert len(site.incidents()) == 2, "a hand on a call point is no test"
    assert ("cp-1", "active") in site.alarms()


async def test_what_still_burns_when_the_walk_is_over_fires(site: Site) -> None:
    await site.walks.start("p1", "", 10 * MINUTE_MS, "lan")
    await site.look()
    await site.say("d1", SMOKE)
    assert site.incidents() == []
    site.clock.advance(600.0)
    await site.look()
    (incident,) = site.incidents()
    assert site.told() == [(incident, "alarm")]


async def test_a_marked_test_of_a_disabled_point_stays_a_test(site: Site) -> None:
    await disable(site)
    await site.say("d1", SMOKE, test=True)
    assert {state for _, state in site.alarms()} == {"test"}
    name = next(iter(site.follower.directory.disablements))
    await site.out.lift(name, "lan")
    await site.look()
    assert site.incidents() == [], "a marked test never fires"


async def test_what_was_over_before_its_disablement_is_not_fired_afterwards(site: Site) -> None:
    name = await disable(site)
    for values in (SMOKE, SMOKE, CALM, CALM, CALM):
        await site.say("d1", values)
    site.clock.advance(120.0)
    for _ in range(3):
        await site.say("d1", CALM)
    await site.out.lift(name, "lan")
    await site.look()
    assert site.incidents() == [], "whoever sprayed a detector and aired the room calls no crew"
    await site.say("d1", SMOKE)
    assert len(site.incidents()) == 1, "and it can fire again"


async def test_what_went_and_came_again_fires_afterwards(site: Site) -> None:
    name = await disable(site, Target("point", "d1", "alarm"))
    for alarm in (True, False, True):
        await site.say("d1", {"alarm": alarm})
    await site.out.lift(name, "lan")
    await site.look()
    assert len(site.incidents()) == 1
