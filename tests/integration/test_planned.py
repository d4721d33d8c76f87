"""A response plan in the fire lane: who is told, who is called, and what waits for whom."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from iotcore.journal import holds
from iotcore.registry.response import Delay, Number, Response
from iotcore.registry.responses import Responses
from iotcore.schedule import Schedule
from tests.support.outage_site import SMOKE, Site, outage_site

PEOPLE = tuple(Number(name=name, number=f"+8491234567{n}") for n, name in enumerate(("Lan", "Minh", "Hoa")))
DELAYED = Response(asked_by="CV 12", delay=Delay(t1_s=60, t2_s=120))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with outage_site(tmp_path) as found:
        yield found


async def plan(site: Site, **what: Any) -> None:
    await Responses(site.registry.database).save("p1", msgspec.structs.replace(DELAYED, **what), "lan")
    await site.follower.refresh()


async def released(site: Site) -> list[str]:
    return list(holds.release_due(site.fire.journal, site.fire.journal.now()).released)


async def test_a_delay_holds_a_smoke_alarm_until_t1_and_nobody_is_told_before(site: Site) -> None:
    await plan(site)
    await site.say("d1", {"alarm": True})
    (incident,) = site.incidents()
    assert site.told() == []
    site.clock.advance(59.0)
    assert await released(site) == []
    site.clock.advance(1.1)
    assert await released(site) == [incident]
    assert site.told() == [(incident, "alarm")]


async def test_an_acknowledgement_leaves_t2_to_look_and_a_reset_in_it_tells_nobody(site: Site) -> None:
    await plan(site)
    await site.say("d1", {"alarm": True})
    (incident,) = site.incidents()
    await site.registry.intent("acknowledge", incident, "lan")
    await site.apply()
    site.clock.advance(100.0)
    assert await released(site) == []
    await site.registry.intent("reset", incident, "lan")
    await site.apply()
    site.clock.advance(100.0)
    assert await released(site) == []
    assert site.told() == []


async def test_a_call_point_ends_the_wait_of_the_others_and_never_waits_itself(site: Site) -> None:
    await plan(site)
    await site.say("d1", {"alarm": True})
    assert site.told() == []
    await site.say("cp-1", {"pressed": True})
    assert [event for _, event in site.told()][:1] == ["alarm"]
    assert len(site.incidents()) == 1


@pytest.mark.parametrize("part", ["day", "night"])
async def test_a_delay_by_day_is_none_by_night(site: Site, part: Any) -> None:
    """The site's clock begins at nine in the morning in Vietnam."""
    await plan(site, delay=Delay(t1_s=60, when=Schedule(named=part)))
    await site.say("d1", {"alarm": True})
    assert bool(site.told()) is (part == "night")


async def test_the_numbers_of_the_plan_travel_with_the_notice_and_only_its_receivers_are_told(site: Site) -> None:
    await plan(site, delay=None, numbers=PEOPLE, receivers=("arc",))
    await site.say("d1", SMOKE)
    notice = json.loads(site.rows("SELECT notice FROM outbox WHERE event = 'alarm'")[0][0])
    assert [one["name"] for one in notice["numbers"]] == ["Lan", "Minh", "Hoa"]
    assert {channel for (channel,) in site.rows("SELECT channel FROM outbox")} == {"arc"}


async def test_a_plan_whose_receivers_are_gone_tells_everybody(site: Site) -> None:
    await plan(site, delay=None, receivers=("gone",))
    await site.say("d1", SMOKE)
    assert {channel for (channel,) in site.rows("SELECT channel FROM outbox")} == {"arc"}
