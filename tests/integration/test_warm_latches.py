"""What was decided before a restart of the fire process is so after it: nothing latched is lost, doubled, or hides a fire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from iotcore.registry.directory import Target
from iotcore.registry.disablements import MINUTE_MS
from tests.support.outage_site import CALM, SMOKE, Site, outage_site
from tests.support.shipped import SPECS

FLAT = {"battery": 3.0}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with outage_site(tmp_path) as found:
        yield found


async def restart(site: Site, off_s: float) -> None:
    site.stop()
    site.clock.advance(off_s)
    site.start()


def alarms(site: Site, rule: str) -> list[tuple[object, ...]]:
    return site.rows(f"SELECT state, cleared_ms IS NOT NULL, repeats, flaps FROM alarm WHERE rule = '{rule}' ORDER BY id")


@pytest.mark.parametrize("off_s", [1.0, 1_200.0], ids=["in the recent readings", "older than they are"])
async def test_a_trouble_that_is_over_after_the_restart_has_returned(site: Site, off_s: float) -> None:
    for _ in range(2):
        await site.say("d1", FLAT)
    assert alarms(site, "battery-low") == [("active", 0, 0, 0)]
    await restart(site, off_s)
    await site.say("d1", FLAT)
    assert alarms(site, "battery-low") == [("active", 0, 0, 0)], "no repeat: it has stood all the time"
    for _ in range(3):
        await site.say("d1", CALM)
    assert alarms(site, "battery-low") == [("active", 1, 0, 0)], "latched, and returned to normal"


@pytest.mark.parametrize("off_s", [1.0, 1_200.0], ids=["in the recent readings", "older than they are"])
async def test_a_fire_that_goes_on_is_not_doubled_and_its_return_is_on_record(site: Site, off_s: float) -> None:
    await site.say("d1", {"alarm": True})
    (before,) = site.rows("SELECT rule FROM alarm")
    await restart(site, off_s)
    await site.say("d1", {"alarm": True})
    assert len(site.incidents()) == 1
    assert alarms(site, str(before[0])) == [("active", 0, 0, 0)]
    await site.say("d1", {"alarm": False})
    assert alarms(site, str(before[0])) == [("active", 1, 0, 0)], "it stands until its reset, and has returned to normal"
    await restart(site, off_s)
    await site.say("d1", {"alarm": True})
    assert alarms(site, str(before[0])) == [("active", 0, 1, 1)], "again: a flap, unacknowledged, as without a restart"


@pytest.mark.parametrize("off_s", [1.0, 1_200.0])
async def test_another_rule_of_a_latched_device_can_raise_after_the_restart(site: Site, off_s: float) -> None:
    await site.say("d1", {"alarm": True})
    await restart(site, off_s)
    for _ in range(10):
        await site.say("d1", {"temperature": 90.0})
    assert len(site.alarms()) > 1


async def test_what_the_journal_does_not_have_raises_again_after_the_restart(site: Site) -> None:
    await site.say("d1", {"alarm": True})
    await site.say("d1", FLAT)
    await site.say("d1", FLAT)
    site.fire.journal.connection.execute("DELETE FROM alarm WHERE rule <> 'battery-low'")
    site.fire.journal.connection.execute("UPDATE incident SET state = 'closed'")
    await restart(site, 1.0)
    await site.say("d1", {"alarm": True})
    assert len(site.incidents()) == 2, "its trouble hides no fire"


async def test_after_a_reset_and_a_restart_what_still_burns_raises(site: Site) -> None:
    await site.say("d1", {"alarm": True})
    (incident,) = site.incidents()
    for kind in ("acknowledge", "reset"):
        await site.registry.intent(kind, incident, "lan")
    await site.apply()
    await restart(site, 1.0)
    await site.say("d1", {"alarm": True})
    assert len(site.incidents()) == 2


async def test_a_fire_of_what_is_disabled_is_recorded_once_and_fires_once_afterwards(site: Site) -> None:
    made = await site.out.disable(Target("device", "d1"), 60 * MINUTE_MS, "bảo trì", "lan", SPECS)
    await site.look()
    await site.say("d1", {"alarm": True})
    await restart(site, 1.0)
    await site.say("d1", {"alarm": True})
    assert site.alarms() == [("d1", "disabled")]
    await site.out.lift(made.id, "lan")
    await site.look()
    assert len(site.incidents()) == 1
    await site.say("d1", SMOKE)
    assert len(site.incidents()) == 1
