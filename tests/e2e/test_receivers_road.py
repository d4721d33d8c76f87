"""One fire, every kind of receiver, the whole platform: all are told, people answer by telephone, the centre by updates."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from simulators.cad_receiver import CadReceiver
from simulators.phone_gateway import PhoneGateway
from simulators.post_box import PostBox
from tests.support.mosquitto import Mosquitto
from tests.support.platform import SECRET, Platform
from tests.support.ports import free_port
from tests.support.road import SMOKE, enrolled, town
from tests.support.smtp import MailBox, mail_server

pytestmark = pytest.mark.timeout(180)
ONE, TWO, THREE = "+84900000001", "+84900000002", "+84900000003"
HTTP = {"allow_http": True, "allow_private": True}
PLAN = f"""numbers:
  - {{name: Bảo vệ, number: "{ONE}", by: voice}}
  - {{name: Ông Hà, number: "{TWO}", by: voice}}
  - {{name: Bà Lan, number: "{THREE}", by: sms}}
"""


@dataclass
class Everybody:
    """Who may be told."""

    cad: CadReceiver
    cap: PostBox
    phones: PhoneGateway
    mails: MailBox
    broker: Mosquitto

    def receivers(self) -> list[dict[str, Any]]:
        body = {"to": "{number}", "text": "{text}"}
        gateway = {"url": self.phones.url, "answer_path": "code", "answer_matches": "^0$", **HTTP}
        address = {"host": "localhost", "sender": "iot@thanhhoa.example", "to": ["truc@pccc.example"], "security": "none"}
        theirs = {"host": "127.0.0.1", "port": self.broker.port}
        return [
            {"kind": "cap", "name": "cap", "url": self.cap.url, "sender": "pccc.example", "status": "Actual", **HTTP},
            {"kind": "mail", "name": "mail", "port": self.mails.port, **address},
            {"kind": "mqtt", "name": "mqtt", "topic": "fire/{event}", "tls": False, **theirs},
            {"kind": "sms", "name": "sms", "body": body, **gateway},
            {
                "kind": "voice",
                "name": "voice",
                "body": body | {"callback": "{callback_url}"},
                "callback_secret": "khóa gọi lại của tổng đài",
                "answer_s": 1.0,
                **gateway,
            },
        ]


@pytest.fixture
async def everybody(tmp_path: Path) -> AsyncIterator[Everybody]:
    async with AsyncExitStack() as stack:
        yield Everybody(
            await stack.enter_async_context(CadReceiver(SECRET)),
            await stack.enter_async_context(PostBox()),
            await stack.enter_async_context(PhoneGateway(presses={ONE: None, TWO: ("1", 0.1)})),
            await stack.enter_async_context(mail_server()),
            stack.enter_context(Mosquitto(tmp_path / "theirs", durable=False)),
        )


async def drilled(platform: Platform, everybody: Everybody, theirs: aiomqtt.Client) -> None:
    """A drill goes by the keeper, the broker and the lane to the centres' programs, as a test; and nobody is told or called."""
    (id_, _, _) = platform.iotcore("drill", "start", "p1").partition(":")
    state = "SELECT state, reason FROM drill WHERE id = ? AND state <> 'waiting'"
    await platform.until(lambda: bool(platform.rows("journal.db", state, id_)), 30.0, "the drill")
    assert platform.rows("journal.db", state, id_) == [("passed", "")]
    message = await anext(aiter(theirs.messages))
    for told in (json.loads(bytes(message.payload)), everybody.cad.taken.pop().report):
        assert (told["incident"], told["event"], told["purpose"]) == (id_, "test", "test")
    assert [*everybody.cad.taken, *everybody.cap.taken, *everybody.mails.mails, *everybody.phones.taken] == []
    assert platform.rows("journal.db", "SELECT id FROM incident") == []
    assert "passed" in platform.iotcore("drill", "list", "p1")


async def test_one_fire_reaches_every_kind_of_receiver_and_their_answers_come_back(tmp_path: Path, everybody: Everybody) -> None:
    platform = Platform(tmp_path, arc_port=free_port(), cad_url=everybody.cad.url)
    platform.settings["receivers"][0:1] = everybody.receivers()
    platform.settings["web"]["public_url"] = f"http://127.0.0.1:{platform.web_port}"
    platform.configure()
    city = town(1)
    city["contacts"] = [{"id": "c1", "premises": "p1", "name": "Bảo vệ", "phone": ONE, "key_holder": True}]
    platform.import_city(city)
    (tmp_path / "plan.yaml").write_text(PLAN, encoding="utf-8")
    platform.iotcore("response", "save", "p1", str(tmp_path / "plan.yaml"))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(platform.stop)
        await platform.start()
        theirs = await stack.enter_async_context(aiomqtt.Client("127.0.0.1", everybody.broker.port))
        await theirs.subscribe("fire/#", qos=1)
        await drilled(platform, everybody, theirs)
        detector = await stack.enter_async_context(await enrolled(platform, "sd-1"))
        for _ in range(3):
            await detector.report(SMOKE)
        await platform.until(lambda: len(everybody.cad.taken) >= 1, 10.0, "the webhook")
        incident = everybody.cad.taken[0].report["incident"]
        assert everybody.cad.taken[0].report["contacts"] == [{"name": "Bảo vệ", "phone": ONE, "role": "", "keys": True}]
        message = await anext(aiter(theirs.messages))
        assert json.loads(bytes(message.payload))["incident"] == incident
        await platform.until(lambda: bool(everybody.cap.taken and everybody.mails.mails), 10.0, "CAP and mail")
        assert incident.encode() in everybody.cap.taken[0].body
        assert b"Signature" in everybody.cap.taken[0].body
        assert incident in everybody.mails.mails[0]["Subject"]
        await platform.until(lambda: {one.number for one in everybody.phones.taken} >= {ONE, TWO, THREE}, 10.0, "telephones")
        assert [one.number for one in everybody.phones.taken if one.callback] == [ONE, TWO]
        story = "SELECT kind FROM incident_event WHERE incident = ?"
        await platform.until(lambda: ("confirmed",) in platform.rows("journal.db", story, incident), 10.0, "key 1")
        assert everybody.phones.answers == [202]
        await platform.until(
            lambda: any(one.report.get("owner") == "confirmed" for one in everybody.cad.taken), 10.0, "the update"
        )
        url = f"http://127.0.0.1:{platform.web_port}/api/v1/receivers/cad/updates"
        assert await everybody.cad.tell(url, {"id": "1", "incident": incident, "status": "dispatched", "unit": "Xe 3"}) == 202
        assert await everybody.cad.tell(url, {"id": "2", "incident": incident, "status": "on_scene", "unit": "Xe 3"}) == 202
        await platform.until(lambda: ("on_scene",) in platform.rows("journal.db", story, incident), 10.0, "on scene")
        waiting = "SELECT channel, event, last_error FROM outbox WHERE acknowledged_ms IS NULL"
        await platform.until(lambda: platform.rows("journal.db", waiting) == [], 10.0, "nothing waits for a receiver")
        assert "Crew dispatched" in await platform.page()
