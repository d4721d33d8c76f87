"""The webhook on real sockets, against a receiver that checks the signature with code of its own."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore.clock import Clock, ManualClock, SystemClock
from iotcore.dispatch import cad_webhook
from iotcore.dispatch.cad_webhook import WebhookChannel, report, schema
from iotcore.errors import DeliveryError
from iotcore.journal.facts import Measured
from iotcore.journal.records import Notice, OutboxRow
from iotcore.settings_receivers import WebhookReceiver
from simulators.cad_receiver import CadReceiver, Turn
from tests.support.fire import NOON_MS, full_notice, notice
from tests.support.ports import free_port
from tests.support.until import until

INCIDENT = "F20261122-020000-3FA9C1"
SECRET = "khóa bí mật của trung tâm"


def row(number: int = 7, **changes: Any) -> OutboxRow:
    told = msgspec.structs.replace(notice(), **{"incident": INCIDENT, **changes})
    return OutboxRow(number, told.incident, "cad", number, 0, told)


@asynccontextmanager
async def channel(
    url: str, secret: str = SECRET, clock: Clock | None = None, *, reply_timeout_s: float = 2.0
) -> AsyncIterator[WebhookChannel]:
    receiver = WebhookReceiver("cad", url, secret, reply_timeout_s, allow_http=True, allow_private=True)
    channel = WebhookChannel(receiver, clock or SystemClock())
    try:
        yield channel
    finally:
        await channel.close()


def ignore(at_ms: float) -> None:
    del at_ms


async def refusal(cad: CadReceiver, **options: Any) -> DeliveryError:
    async with channel(cad.url, **options) as out:
        with pytest.raises(DeliveryError) as caught:
            await out.send(row(), ignore)
    return caught.value


async def test_a_signed_alarm_is_accepted_with_its_full_names_and_a_reference() -> None:
    moments: list[float] = []
    before = SystemClock().wall_ms()
    async with CadReceiver(SECRET) as cad, channel(cad.url) as out:
        assert await out.send(row(), moments.append) == "accepted CAD-1"
    (taken,) = cad.taken
    assert taken.key == f"{INCIDENT}:alarm"
    assert taken.report == {
        "v": 1,
        "incident": INCIDENT,
        "event": "alarm",
        "hazard": "smoke",
        "severity": "alarm",
        "occurred_at": "2026-11-22T02:00:00.000Z",
        "delayed": False,
        "unconfirmed": False,
        "premises": {
            "id": "p1",
            "name": "Chợ Vườn Hoa",
            "address": "Đường Lê Hoàn, Thanh Hóa",
            "account": "1001",
            "latitude": 19.807,
            "longitude": 105.776,
        },
        "zone": {"id": "p1-z1", "number": 1, "name": "Gian hàng", "floor": "Tầng 1"},
        "cause": {"device": "sd-0001", "point": "smoke", "value": 0.4, "unit": "dB/m", "rule": "smoke", "reason": "above"},
    }
    assert len(moments) == 1
    assert before <= moments[0] <= taken.at_ms + 5.0  # told when written, not when answered


async def test_what_responders_may_know_goes_along_and_an_update_says_what_the_air_is_like() -> None:
    told = full_notice(air=(Measured("air-1", "pm2_5", 81.5, "ug/m3", NOON_MS),))
    async with CadReceiver(SECRET) as cad, channel(cad.url) as out:
        await out.send(OutboxRow(7, told.incident, "cad", 7, 0, told), ignore)
    (taken,) = cad.taken
    assert taken.report["premises"]["hydrants"] == "Trụ 12, trước cổng"
    assert taken.report["cause"]["location"] == "Trần, trên cửa phòng 101"
    assert taken.report["contacts"] == [
        {"name": "Bảo vệ", "phone": "+842373852222", "role": "trực đêm", "keys": True},
        {"name": "Ông Hà", "phone": "+84913000111", "role": "", "keys": False},
    ]
    assert taken.report["signals"] == [{"device": "sig-1", "title": "Ngã tư Lê Hoàn", "metres": 120}]
    assert taken.report["air"] == [
        {"device": "air-1", "point": "pm2_5", "value": 81.5, "unit": "ug/m3", "measured_at": "2026-11-22T02:00:00.000Z"}
    ]
    assert "numbers" not in taken.report  # they are for those who call, not for dispatch
    assert "purpose" not in taken.report


async def test_the_moment_of_sending_does_not_wait_for_the_answer() -> None:
    moments: list[float] = []
    async with CadReceiver(SECRET, turns=[Turn(delay_s=0.1)]) as cad, channel(cad.url) as out:
        await out.send(row(), moments.append)
        assert SystemClock().wall_ms() - moments[0] >= 100.0


async def test_a_repeat_carries_the_same_key_and_a_restore_another() -> None:
    async with CadReceiver(SECRET) as cad, channel(cad.url) as out:
        for one in (row(), row(), row(8, event="restore")):
            await out.send(one, ignore)
    assert [(taken.key, taken.repeated) for taken in cad.taken] == [
        (f"{INCIDENT}:alarm", False),
        (f"{INCIDENT}:alarm", True),
        (f"{INCIDENT}:restore", False),
    ]


async def test_a_storm_goes_over_one_connection() -> None:
    async with CadReceiver(SECRET) as cad, channel(cad.url) as out:
        for number in range(50):
            await out.send(row(number), ignore)
    assert (len(cad.taken), len(cad.connections)) == (50, 1)


async def test_a_rejection_is_not_worth_repeating_and_tells_why() -> None:
    async with CadReceiver(SECRET, turns=[Turn(body={"status": "rejected", "reason": "bad location"})]) as cad:
        error = await refusal(cad)
    assert (error.reason, error.detail, error.recoverable) == ("rejected", "bad location", False)


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        (Turn(status=500), "http_500"),
        (Turn(status=404), "http_404"),
        (Turn(status=429), "http_429"),
        (Turn(body=b"<html>welcome to our wifi</html>"), "not_an_answer"),
        (Turn(body=b""), "not_an_answer"),
        (Turn(body={"status": "ok"}), "not_an_answer"),
        (Turn(body=b"[" * 100_000), "not_an_answer"),
        (Turn(status=302, headers={"Location": "/elsewhere"}), "http_302"),
        (Turn(status=307, headers={"Location": "/elsewhere"}), "http_307"),
        (Turn(close=True), "connection_lost"),
    ],
)
async def test_anything_but_an_acceptance_is_a_named_reason_to_try_again(turn: Turn, reason: str) -> None:
    async with CadReceiver(SECRET, turns=[turn, turn]) as cad:
        error = await refusal(cad)
        assert (error.reason, error.recoverable) == (reason, True)
        assert set(cad.paths) == {"/alarms"}  # a redirect is not followed


async def test_silence_is_named_after_the_reply_timeout() -> None:
    async with CadReceiver(SECRET, turns=[Turn(delay_s=0.5)]) as cad:
        assert (await refusal(cad, reply_timeout_s=0.1)).reason == "no_reply"


async def test_nobody_listening_is_named() -> None:
    async with channel(f"http://127.0.0.1:{free_port()}/alarms") as out:
        with pytest.raises(DeliveryError) as caught:
            await out.send(row(), ignore)
    assert caught.value.reason == "connect_failed"


async def test_a_kept_connection_that_its_server_dropped_is_replaced_without_a_failed_attempt() -> None:
    async with CadReceiver(SECRET, turns=[Turn(), Turn(close=True)]) as cad, channel(cad.url) as out:
        assert await out.send(row(1), ignore) == "accepted CAD-1"
        assert await out.send(row(2), ignore) == "accepted CAD-1"


async def test_a_wrong_secret_and_an_old_signature_are_refused_by_the_receiver() -> None:
    async with CadReceiver(SECRET) as cad:
        assert (await refusal(cad, secret="another")).reason == "http_401"
        yesterday = ManualClock(now_ms=SystemClock().wall_ms() - 86_400_000.0)
        assert (await refusal(cad, clock=yesterday)).reason == "http_401"
        assert cad.refused == {"bad_signature": 1, "bad_time": 1}
        assert not cad.taken


async def test_a_changed_body_is_refused_by_the_receiver() -> None:
    body = msgspec.json.encode(report(row().notice))
    timestamp = str(int(SystemClock().wall_ms() / 1000.0))
    headers = {
        "Iotcore-Timestamp": timestamp,
        "Iotcore-Signature": cad_webhook.sign(SECRET, timestamp, body),
        "Idempotency-Key": f"{INCIDENT}:alarm",
    }
    async with CadReceiver(SECRET) as cad, aiohttp.ClientSession() as session:
        for sent, status in ((body, 200), (body.replace(b"alarm", b"restore"), 401)):
            async with session.post(cad.url, data=sent, headers=headers) as response:
                assert response.status == status


async def test_a_cancelled_send_does_not_spoil_the_next() -> None:
    async with CadReceiver(SECRET, turns=[Turn(delay_s=0.2)]) as cad, channel(cad.url) as out:
        sending = asyncio.create_task(out.send(row(1), ignore))
        await until(lambda: bool(cad.paths))
        sending.cancel()
        await asyncio.wait({sending})
        assert await out.send(row(2), ignore) == "accepted CAD-1"


def test_the_published_schema_is_the_generated_one() -> None:
    shipped = Path(cad_webhook.__file__).with_name("cad_webhook.schema.json")
    assert json.loads(shipped.read_bytes()) == schema(), f"run: python -m iotcore.dispatch.cad_webhook > {shipped}"


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    told=st.from_type(Notice),
    occurred_ms=st.floats(0.0, 4e12),
    latitude=finite,
    longitude=finite,
    value=st.none() | finite | st.booleans() | st.text(),
)
def test_every_report_satisfies_the_published_schema(
    told: Notice, occurred_ms: float, latitude: float, longitude: float, value: Any
) -> None:
    incident = told.incident or INCIDENT
    told = msgspec.structs.replace(
        told, incident=incident, occurred_ms=occurred_ms, latitude=latitude, longitude=longitude, value=value,
        air=tuple(msgspec.structs.replace(one, at_ms=occurred_ms) for one in told.air if math.isfinite(one.value)),
    )  # fmt: skip
    jsonschema.Draft202012Validator(schema()).validate(json.loads(msgspec.json.encode(report(told))))
