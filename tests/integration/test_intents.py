"""What people ask of the fire lane: each act apart, once however many processes apply it, and again after a kill."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from iotcore.app.intents import INTENT_CURSOR, Intents
from iotcore.dispatch.outbox import Dispatcher
from iotcore.journal.outbox import SqlOutbox
from iotcore.off_loop import in_a_thread
from tests.support.outage_site import CALM, SMOKE, Site, outage_site

T = TypeVar("T")
FLAT = {"battery": 3.0}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with outage_site(tmp_path) as found:
        yield found


def story(site: Site) -> list[tuple[str, str]]:
    return [(str(kind), str(by)) for kind, by in site.rows("SELECT kind, by FROM incident_event ORDER BY id")]


async def burning(site: Site) -> str:
    await site.say("d1", SMOKE)
    (incident,) = site.incidents()
    return incident


async def test_acknowledge_silence_and_reset_are_three_acts(site: Site) -> None:
    incident = await burning(site)
    await site.registry.intent("silence", incident, "lan")
    await site.apply()
    assert site.rows("SELECT state, acknowledged_ms, silenced_by FROM incident") == [("open", None, "lan")]
    assert [event for _, event in site.told()] == ["alarm"], "silence changes nothing of delivery"
    await site.registry.intent("acknowledge", incident, "minh")
    await site.apply()
    assert site.rows("SELECT state, acknowledged_by, silenced_by FROM incident") == [("open", "minh", "lan")]
    await site.registry.intent("reset", incident, "hoa")
    await site.apply()
    assert site.rows("SELECT state, closed_by FROM incident") == [("closed", "hoa")]
    assert [event for _, event in site.told()] == ["alarm", "restore"]
    assert [one for one in story(site) if one[1]] == [("silenced", "lan"), ("acknowledged", "minh"), ("reset", "hoa")]
    done = [(one.deed.by, one.deed.action) for one in await site.registry.audit_entries()]
    assert done[-3:] == [("lan", "incident.silence"), ("minh", "incident.acknowledge"), ("hoa", "incident.reset")]


class _Stopped:
    """Carries work out, and is cancelled just after the nth piece: what a stop of the process does."""

    def __init__(self, nth: int) -> None:
        self.left = nth

    async def __call__(self, work: Callable[[], T], /) -> T:
        done = await in_a_thread(work)
        self.left -= 1
        if not self.left:
            raise asyncio.CancelledError
        return done


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
async def test_a_reset_that_is_stopped_in_the_middle_is_done_once_when_it_is_applied_again(site: Site, nth: int) -> None:
    incident = await burning(site)
    await site.registry.intent("acknowledge", incident, "minh")
    await site.apply()
    await site.registry.intent("reset", incident, "hoa")
    one = site.fire
    (intent,) = await site.registry.intents_after(one.applied)
    dispatcher = Dispatcher(SqlOutbox(one.journal), {}, site.clock, "test")
    with pytest.raises(asyncio.CancelledError):
        await Intents(one.lane, site.follower, one.engine, one.journal, dispatcher, off_loop=_Stopped(nth))(intent)
    await site.apply()
    assert one.journal.cursor(INTENT_CURSOR) == intent.id
    assert [event for _, event in site.told()] == ["alarm", "restore"]
    assert [kind for kind, _ in story(site)].count("reset") == 1
    await site.say("d1", SMOKE)
    assert len(site.incidents()) == 2, "and its device can raise again"


async def test_every_process_applies_them_and_each_can_raise_again_after_a_reset(site: Site) -> None:
    site.start(2)
    incident = await burning(site)
    for kind in ("acknowledge", "silence", "reset"):
        await site.registry.intent(kind, incident, "lan")
    await site.apply()
    kinds = [kind for kind, _ in story(site)]
    assert [kinds.count(kind) for kind in ("acknowledged", "silenced", "reset")] == [1, 1, 1]
    assert [event for _, event in site.told()] == ["alarm", "restore"]
    await site.say("d1", SMOKE)
    assert len(site.incidents()) == 2, "both are unlatched, and one incident comes of it"
    site.replicas[0].journal.close()
    site.replicas = site.replicas[1:]
    assert len(site.incidents()) == 2


@pytest.mark.parametrize("applied", [False, True])
async def test_an_intent_taken_by_a_process_that_was_killed_is_applied_by_the_next(site: Site, applied: bool) -> None:  # noqa: FBT001 a case
    incident = await burning(site)
    await site.registry.intent("acknowledge", incident, "lan")
    await site.registry.intent("reset", incident, "lan")
    if applied:  # and killed before it had noted how far it came
        await site.apply()
        site.fire.journal.connection.execute("UPDATE cursor SET value = 0 WHERE name = ?", (INTENT_CURSOR,))
    site.start()
    await site.apply()
    assert site.rows("SELECT state, acknowledged_by, closed_by FROM incident") == [("closed", "lan", "lan")]
    assert [event for _, event in site.told()] == ["alarm", "restore"]
    assert site.fire.journal.cursor(INTENT_CURSOR) == 2
    await site.say("d1", CALM)
    await site.say("d1", SMOKE)
    assert len(site.incidents()) == 2


async def test_one_alarm_is_acknowledged_without_its_incident(site: Site) -> None:
    incident = await burning(site)
    number = site.rows("SELECT id FROM alarm ORDER BY id")[0][0]
    await site.registry.intent("acknowledge", f"{incident}/{number}", "lan")
    await site.apply()
    assert site.rows("SELECT acknowledged_by FROM alarm WHERE id = " + str(number)) == [("lan",)]
    assert site.rows("SELECT acknowledged_ms FROM incident") == [(None,)]


async def test_the_owner_confirms_or_denies_and_nothing_is_cancelled(site: Site) -> None:
    incident = await burning(site)
    body = json.dumps({"said": "denied", "how": "link"})
    await site.registry.intent("owner", f"{incident}/link", "owner", body=body)
    await site.registry.intent("owner", f"{incident}/link", "owner", body=json.dumps({"said": "confirmed", "how": "link"}))
    await site.apply()
    assert site.rows("SELECT state, owner_said, owner_by FROM incident") == [("open", "denied", "owner (link)")]
    assert ("denied", "owner (link)") in story(site)
    assert "alarm" in [event for _, event in site.told()]
    await site.registry.intent("owner", f"{incident}/sms", "owner", body=json.dumps({"said": "confirmed", "how": "sms"}))
    await site.registry.intent("owner", f"{incident}/voice", "owner", body="nonsense")
    await site.apply()
    assert site.rows("SELECT owner_said FROM incident") == [("confirmed",)], "another way may say something else"


async def test_an_alarm_that_is_no_fire_is_shelved_and_a_fire_is_not(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        await site.say("d1", FLAT)
    until_ms = site.clock.wall_ms() + 3_600_000.0
    more = {"until_ms": until_ms, "reason": "pin mới ngày mai"}
    flat = json.dumps({"device": "d1", "rule": "battery-low", **more})
    await site.registry.intent("shelve", "d1/battery-low@1", "lan", body=flat)
    await site.apply()
    assert site.rows("SELECT device, rule, by, reason FROM shelf") == [("d1", "battery-low", "lan", "pin mới ngày mai")]
    await burning(site)
    caplog.set_level(logging.WARNING)
    for rule, why in (("detector-alarm", "a fire is never shelved"), ("nothing", "no_alarm")):
        await site.registry.intent("shelve", f"d1/{rule}@1", "lan", body=json.dumps({"device": "d1", "rule": rule, **more}))
        await site.apply()
        assert why in caplog.text
    long = json.dumps({"device": "d1", "rule": "battery-low", **more, "until_ms": until_ms + 86_400_000.0})
    await site.registry.intent("shelve", "d1/battery-low@2", "lan", body=long)
    await site.apply()
    assert "too_long" in caplog.text
    assert len(site.rows("SELECT device FROM shelf")) == 1
    await site.registry.intent("unshelve", "d1/battery-low@3", "lan", body=flat)
    await site.apply()
    assert site.rows("SELECT device FROM shelf") == []
    assert site.fire.journal.cursor(INTENT_CURSOR) == 5, "what is refused holds up nothing"
