"""What receivers tell us back: signed, fresh, once; in the incident's story, on its card, and to whoever waits for a key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from iotcore.clock import SystemClock
from iotcore.commands import doctor
from iotcore.dispatch import calls
from iotcore.dispatch.cad_update import schema
from iotcore.dispatch.cad_webhook import sign
from iotcore.dispatch.calls import Call
from iotcore.journal.cad import STATUSES, Update
from iotcore.journal.records import Batch
from iotcore.settings import Settings
from tests.support.console import RECEIVERS, Console, console
from tests.support.fire import raise_
from tests.support.outage_site import SMOKE, Site, outage_site

SECRET, CALLBACK = RECEIVERS[0].secret, RECEIVERS[1].callback_secret
INCIDENT = "F20261122-020000-3FA9C1"
UPDATE = {"id": "u-1", "incident": INCIDENT, "status": "dispatched", "unit": "Xe 3, Đội Hạc Thành"}


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Console]:
    async with console(tmp_path) as one, one.app.test_app():
        yield one


@pytest.fixture
def told_of(made: Console) -> str:
    """An incident that `cad` was told of."""
    (incident,) = made.fire.journal.commit(Batch(raises=(raise_(),))).opened
    return incident


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with outage_site(tmp_path) as found:
        yield found


async def post(made: Console, body: bytes, *, name: str = "cad", age_s: int = 0, **changes: Any) -> Any:
    timestamp = str(int(made.clock.wall_ms() / 1000.0) - age_s)
    headers = {"Iotcore-Timestamp": timestamp, "Iotcore-Signature": sign(SECRET, timestamp, body), **changes}
    return await made.app.test_client().post(f"/api/v1/receivers/{name}/updates", data=body, headers=headers)


async def test_a_signed_update_becomes_an_intent_and_a_recorded_one_is_the_same(made: Console, told_of: str) -> None:
    update = {**UPDATE, "incident": told_of}
    body = json.dumps(update).encode()
    first, again = await post(made, body), await post(made, body)
    assert (first.status_code, await first.get_json()) == (202, await again.get_json())
    assert (await post(made, json.dumps({**update, "status": "closed"}).encode())).status_code == 202
    (intent,) = await made.registry.intents_after(0)  # of two with one id the first counts
    assert (intent.kind, intent.key, intent.by) == ("cad", f"{told_of}/cad:cad:u-1", "receiver:cad")
    assert msgspec.json.decode(intent.body, type=Update) == msgspec.convert(update, Update)


async def test_an_update_of_an_incident_that_the_centre_was_not_told_of_is_refused_and_says_nothing_to_who_did_not_sign(
    made: Console, told_of: str
) -> None:
    with made.fire.journal.writing() as connection:
        connection.execute("DELETE FROM outbox WHERE channel = 'cad'")  # as of a premises whose plan leaves it out
    answers = [await post(made, json.dumps({**UPDATE, "incident": one}).encode()) for one in (INCIDENT, told_of)]
    assert [(one.status_code, (await one.get_json())["title"]) for one in answers] == [(404, "unknown incident")] * 2
    unproven: dict[str, Any] = {"Iotcore-Signature": "v1=00"}
    unsigned = [await post(made, json.dumps({**UPDATE, "incident": one}).encode(), **unproven) for one in (INCIDENT, told_of)]
    assert [one.status_code for one in unsigned] == [401, 401]
    assert await unsigned[0].get_json() == await unsigned[1].get_json()
    assert await made.registry.intents_after(0) == []


@pytest.mark.parametrize(
    ("options", "status", "reason"),
    [
        ({"age_s": 301}, 401, "bad_time"),
        ({"age_s": -301}, 401, "bad_time"),
        ({"Iotcore-Signature": "v1=00"}, 401, "bad_signature"),
        ({"Iotcore-Signature": "v1=é"}, 401, "bad_signature"),
        ({"Iotcore-Timestamp": "now"}, 401, "bad_signature"),
        ({"name": "voice"}, 401, "unknown"),
        ({"name": "nobody"}, 401, "unknown"),
    ],
)
async def test_what_is_not_signed_by_the_centre_now_is_refused(
    made: Console, options: dict[str, Any], status: int, reason: str
) -> None:
    response = await post(made, json.dumps(UPDATE).encode(), **options)
    assert (response.status_code, reason in (await response.get_json())["detail"]) == (status, True)
    assert await made.registry.intents_after(0) == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", {"status": "gone"}, {"id": "a b"}, {"incident": ""}, {"reason": "x" * 201}])
async def test_a_signed_update_that_is_none_is_told_so(made: Console, body: Any) -> None:
    sent = body if isinstance(body, bytes) else json.dumps({**UPDATE, **body}).encode()
    assert (await post(made, sent)).status_code == 400
    assert await made.registry.intents_after(0) == []


@pytest.mark.parametrize("way", ["json", "form", "query", "get"])
async def test_a_key_on_the_telephone_is_the_owners_answer(made: Console, way: str) -> None:
    token = calls.token(CALLBACK, Call(INCIDENT, "ab12", "Bảo vệ", int(made.clock.wall_ms() / 1000.0) + 3_600))
    path, client = f"/api/v1/receivers/voice/calls/{token}", made.app.test_client()
    ways = {
        "json": lambda key: client.post(path, json={"key": key}),
        "form": lambda key: client.post(path, form={"key": key}),
        "query": lambda key: client.post(f"{path}?key={key}"),
        "get": lambda key: client.get(f"{path}?key={key}"),
    }
    assert (await ways[way]("7")).status_code == 400
    assert (await ways[way]("1")).status_code == 202
    (intent,) = await made.registry.intents_after(0)
    assert (intent.kind, intent.key, intent.by) == ("owner", f"{INCIDENT}/call:ab12", "call:Bảo vệ")
    assert json.loads(intent.body) == {"said": "confirmed", "how": "voice"}


async def test_an_address_that_was_made_up_or_is_old_is_refused(made: Console) -> None:
    client, now_s = made.app.test_client(), int(made.clock.wall_ms() / 1000.0)
    old = calls.token(CALLBACK, Call(INCIDENT, "ab12", "Bảo vệ", now_s - 1))
    forged = calls.token("another secret than ours", Call(INCIDENT, "ab12", "Bảo vệ", now_s + 60))
    for token, name in ((old, "voice"), (forged, "voice"), ("x", "voice"), (old, "cad")):
        response = await client.post(f"/api/v1/receivers/{name}/calls/{token}", json={"key": "1"})
        assert response.status_code == 401
    assert await made.registry.intents_after(0) == []


async def told(site: Site, incident: str, **changes: str) -> None:
    update = {**UPDATE, "incident": incident, **changes}
    key = f"{incident}/cad:arc:{update['id']}"
    await site.registry.intent("cad", key, "receiver:arc", "10.0.0.7", json.dumps(update))


async def test_the_life_cycle_stands_in_the_story_once_whoever_applies_it(site: Site) -> None:
    site.start(2)
    await site.say("d1", SMOKE)
    (incident,) = site.incidents()
    for number, status in enumerate(STATUSES):
        await told(site, incident, id=f"u-{number}", status=status, disposition="đã dập tắt" if status == "closed" else "")
    await site.apply()
    for one in site.replicas:
        one.applied = 0
    await site.apply()  # again, as after a kill between applying and remembering
    said = site.rows("SELECT kind, by, detail FROM incident_event WHERE by = 'arc' ORDER BY id")
    assert [kind for kind, _, _ in said] == list(STATUSES.values())
    assert ("closed", "arc", "Xe 3, Đội Hạc Thành, đã dập tắt") in said
    assert site.rows("SELECT state FROM incident") == [("open",)], "a request to cancel cancels nothing"


async def test_an_update_of_an_incident_that_its_receiver_was_never_told_is_refused(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await site.say("d1", SMOKE)
    await told(site, "F20261122-020000-000000")
    await site.apply()
    assert "unknown_incident" in caplog.text
    assert site.rows("SELECT count(*) FROM incident_event WHERE kind = 'dispatched'") == [(0,)]


async def test_a_key_reaches_whoever_waits_for_it_in_every_process(site: Site) -> None:
    site.start(2)
    await site.say("d1", SMOKE)
    (incident,) = site.incidents()
    await site.registry.intent(
        "owner", f"{incident}/call:ab12", "call:Bảo vệ", "", json.dumps({"said": "denied", "how": "voice"})
    )
    await site.apply()
    assert [one.pressed for one in site.replicas] == [[("ab12", "denied")], [("ab12", "denied")]]
    assert site.rows("SELECT kind, by FROM incident_event WHERE kind = 'denied'") == [("denied", "call:Bảo vệ (voice)")]
    assert site.rows("SELECT state, owner_said FROM incident") == [("open", "denied")]


async def test_a_rejection_is_loud_on_the_card_in_the_story_and_to_the_doctor(made: Console, tmp_path: Path) -> None:
    incident = made.fire.burn()
    for _ in range(2):
        made.fire.fail("cad", "rejected: bad location")
        made.clock.advance(1.0)
    rows = made.fire.journal.connection.execute("SELECT kind, by, detail FROM incident_event WHERE kind = 'rejected'").fetchall()
    assert [tuple(row) for row in rows] == [("rejected", "cad", "bad location")]  # once, however often it is asked again
    client = await made.client()
    page = ""
    for _ in range(100):  # it is brought up to date in its own pace
        page = await (await client.get("/")).get_data(as_text=True)
        if "TỪ CHỐI nhận tin" in page:
            break
        await asyncio.sleep(0.05)
    assert "TỪ CHỐI nhận tin" in page
    assert "bad location" in page
    assert incident in page
    findings = await doctor.examine(Settings(data=str(tmp_path)), SystemClock())
    (journal,) = [one for one in findings if one.name == "journal"]
    assert (journal.well, "REJECTED by cad" in journal.said) == (False, True)


def test_the_published_schema_of_updates_is_the_generated_one() -> None:
    shipped = Path(calls.__file__).with_name("cad_update.schema.json")
    assert json.loads(shipped.read_bytes()) == schema(), f"run: python -m iotcore.dispatch.cad_update > {shipped}"
    jsonschema.Draft202012Validator(schema()).validate(UPDATE)
