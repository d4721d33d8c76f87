"""Text messages and calls by a real HTTP gateway: who is told, in which order, what they read and hear, and what a key does."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from iotcore.clock import ManualClock, SystemClock
from iotcore.dispatch import calls
from iotcore.dispatch.calls import Call
from iotcore.dispatch.http_gateway import Said, SmsChannel, VoiceChannel
from iotcore.errors import ConfigError, DeliveryError, Refused
from iotcore.journal.facts import Number
from iotcore.journal.records import OutboxRow
from iotcore.settings import check
from iotcore.settings_channels import SmsReceiver, VoiceReceiver
from simulators.phone_gateway import PhoneGateway, Taken
from simulators.post_box import PostBox, Reply
from tests.support.fire import NOON_MS, full_notice

ONE, TWO, THREE = "+84900000001", "+84900000002", "+84900000003"
SECRET = "khóa gọi lại của tổng đài"
CALLED = tuple(Number(name, number, "voice") for name, number in (("Một", ONE), ("Hai", TWO), ("Ba", THREE)))
TEXTED = tuple(msgspec.structs.replace(one, by="sms") for one in CALLED)


def row(number: int = 7, **changes: Any) -> OutboxRow:
    told = full_notice(**changes)
    return OutboxRow(number, told.incident, "phone", number, 0, told)


def ignore(at_ms: float) -> None:
    del at_ms


def sms(url: str, **changes: Any) -> SmsReceiver:
    return msgspec.structs.replace(
        SmsReceiver(
            name="sms",
            url=url,
            body={"to": "{number}", "text": "{text}", "ref": "{id}"},
            headers={"Authorization": "Bearer {secret}"},
            secret="s3cret",
            answer_path="code",
            answer_matches="^0$",
            reply_timeout_s=2.0,
            allow_http=True,
            allow_private=True,
        ),
        **changes,
    )


@asynccontextmanager
async def texting(receiver: SmsReceiver) -> AsyncIterator[SmsChannel]:
    made = SmsChannel(receiver, SystemClock())
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def calling(answer_s: float = 0.3, **options: Any) -> AsyncIterator[tuple[VoiceChannel, PhoneGateway]]:
    """A channel whose gateway tells keys by the address of the call, read as the page reads it."""

    def tell(taken: Taken, key: str) -> None:
        call = calls.read(SECRET, taken.callback.rpartition("/")[2], NOON_MS / 1000.0)
        said: dict[str, Said] = {"1": "confirmed", "2": "denied"}
        made.heard(call.id, said[key])

    async with PhoneGateway(tell=tell, **options) as gateway:
        receiver = VoiceReceiver(
            name="voice",
            url=gateway.url,
            body={"to": "{number}", "text": "{text}", "callback": "{callback_url}"},
            callback_secret=SECRET,
            answer_s=answer_s,
            allow_http=True,
            allow_private=True,
            answer_path="code",
            answer_matches="^0$",
        )
        made = VoiceChannel(receiver, ManualClock(now_ms=NOON_MS), "https://iot.example/api/v1/receivers/voice/calls")
        try:
            yield made, gateway
        finally:
            await made.close()


async def test_everybody_of_the_plan_is_texted_in_order_each_in_their_language() -> None:
    people = (*TEXTED[:2], Number("Lee", THREE, "sms", "en"))
    moments: list[float] = []
    async with PhoneGateway(key="s3cret") as gateway, texting(sms(gateway.url)) as out:
        assert await out.send(row(numbers=people), moments.append) == "texted 3"
    assert [one.number for one in gateway.taken] == [ONE, TWO, THREE]
    assert gateway.taken[0].text.startswith("BAO CHAY: khoi. Cho Vuon Hoa. Duong Le Hoan, Thanh Hoa. ")
    assert gateway.taken[2].text.startswith("FIRE ALARM: smoke. Cho Vuon Hoa. ")
    assert all("F20261122-020000-3FA9C1" in one.text for one in gateway.taken)
    assert len(moments) == 3


async def test_marks_and_forms_and_get_are_as_the_gateway_wants_them() -> None:
    for changes in ({"format": "form"}, {"format": "form", "method": "GET"}, {"format": "json", "method": "PUT"}):
        async with PhoneGateway(key="s3cret") as gateway, texting(sms(gateway.url, marks=True, **changes)) as out:
            await out.send(row(numbers=TEXTED[:1]), ignore)
        assert gateway.taken[0].text.startswith("BÁO CHÁY: khói. Chợ Vườn Hoa. Đường Lê Hoàn")
        assert gateway.taken[0].number == ONE


async def test_what_a_building_is_called_is_never_a_template_nor_ends_a_text() -> None:
    name = 'Kho "A" {secret} \\ {number}\r\nX-Evil: 1'
    async with PhoneGateway(key="s3cret") as gateway, texting(sms(gateway.url)) as out:
        await out.send(row(numbers=TEXTED[:1], premises_name=name), ignore)
    assert 'Kho "A" {secret} \\ {number} X-Evil: 1' in gateway.taken[0].text
    assert "X-Evil" not in gateway.taken[0].headers


async def test_a_retry_asks_only_for_those_that_the_gateway_has_not_taken() -> None:
    async with PhoneGateway(key="s3cret", refuses=frozenset({TWO})) as gateway, texting(sms(gateway.url)) as out:
        with pytest.raises(DeliveryError, match="gateway: Hai") as caught:
            await out.send(row(numbers=TEXTED), ignore)
        assert caught.value.recoverable
        assert [one.number for one in gateway.taken] == [ONE, THREE]  # one that fails keeps nobody waiting
        gateway.refuses = frozenset()
        assert await out.send(row(numbers=TEXTED), ignore) == "texted 3"
    assert [one.number for one in gateway.taken] == [ONE, THREE, TWO]


@pytest.mark.parametrize(
    ("reply", "changes", "reason"),
    [
        (Reply(500), {}, "http_500"),
        (Reply(302, headers={"Location": "/x"}), {}, "http_302"),
        (Reply(206, b'{"code": 0}'), {}, "http_206"),
        (Reply(200, b"<html>"), {}, "not_an_answer"),
        (Reply(200, b'{"result": []}'), {"answer_path": "result.0.code"}, "not_an_answer"),
        (Reply(200, b'{"code": 7}'), {}, "gateway"),
        (Reply(200, b"ERR 7"), {"answer_path": "", "answer_matches": "^OK"}, "gateway"),
        (Reply(delay_s=0.5), {"reply_timeout_s": 0.1}, "no_reply"),
    ],
)
async def test_an_answer_that_does_not_mean_success_is_a_named_reason_to_try_again(
    reply: Reply, changes: dict[str, Any], reason: str
) -> None:
    async with PostBox(replies=[reply]) as box, texting(sms(box.url, **changes)) as out:
        with pytest.raises(DeliveryError) as caught:
            await out.send(row(numbers=TEXTED[:1]), ignore)
    assert (caught.value.reason, caught.value.recoverable) == (reason, True)


async def test_premises_without_a_plan_are_told_by_the_numbers_of_the_settings() -> None:
    async with PhoneGateway(key="s3cret") as gateway, texting(sms(gateway.url, numbers=[THREE])) as out:
        assert await out.send(row(numbers=()), ignore) == "texted 1"
        assert await out.send(row(8, numbers=(), event="restore"), ignore) == "texted 1"
        assert await out.send(row(9, event="update"), ignore) == "not sent: updates are not texted"
    assert [one.number for one in gateway.taken] == [THREE, THREE]
    assert gateway.taken[1].text.startswith("KET THUC BAO CHAY")


async def test_numbers_are_called_in_order_until_somebody_confirms() -> None:
    presses = {ONE: None, TWO: ("2", 0.01), THREE: ("1", 0.01)}
    async with calling(presses=presses) as (out, gateway):
        assert await out.send(row(numbers=CALLED), ignore) == "Một: no answer; Hai: denied; Ba: confirmed"
    assert [one.number for one in gateway.taken] == [ONE, TWO, THREE]
    assert "Nhấn phím 1 nếu có cháy thật" in gateway.taken[0].text
    assert len({one.callback for one in gateway.taken}) == 3


async def test_whoever_confirms_is_the_last_to_be_called() -> None:
    async with calling(presses={ONE: ("1", 0.01)}) as (out, gateway):
        assert await out.send(row(numbers=CALLED), ignore) == "Một: confirmed"
    assert [one.number for one in gateway.taken] == [ONE]


async def test_a_number_that_the_gateway_refuses_is_skipped_and_told() -> None:
    async with calling(presses={TWO: ("1", 0.01)}, refuses=frozenset({ONE})) as (out, _):
        assert await out.send(row(numbers=CALLED), ignore) == "Một: gateway: 21; Hai: confirmed"


async def test_all_are_called_again_when_nobody_answers_and_not_when_all_denied() -> None:
    async with calling(0.05) as (out, gateway):
        with pytest.raises(DeliveryError, match="nobody_confirmed") as caught:
            await out.send(row(numbers=CALLED), ignore)
        assert (len(gateway.taken), caught.value.recoverable) == (3, True)
        last = dataclasses.replace(row(numbers=CALLED), attempts=2)
        assert await out.send(last, ignore) == "Một: no answer; Hai: no answer; Ba: no answer"
    async with calling(presses=dict.fromkeys((ONE, TWO, THREE), ("2", 0.0))) as (out, _):
        assert await out.send(row(numbers=CALLED), ignore) == "Một: denied; Hai: denied; Ba: denied"


async def test_a_key_of_another_call_is_nobodys_answer() -> None:
    async with calling(0.05) as (out, _):
        out.heard("another", "confirmed")
        with pytest.raises(DeliveryError, match="nobody_confirmed"):
            await out.send(row(numbers=CALLED[:1]), ignore)
        assert await out.send(row(8, numbers=CALLED, event="restore"), ignore) == "not called: restore"
        assert await out.send(row(9, numbers=TEXTED), ignore) == "not called: there is no number"


async def test_a_step_of_the_ladder_is_told_to_its_people_though_it_is_an_update() -> None:
    step: dict[str, Any] = {"event": "update", "escalated": 2}
    async with calling(presses={THREE: ("1", 0.01)}) as (out, _):
        assert await out.send(row(numbers=CALLED[2:], **step), ignore) == "Ba: confirmed"
    async with PhoneGateway(key="s3cret") as gateway, texting(sms(gateway.url)) as texts:
        assert await texts.send(row(numbers=TEXTED[:1], **step), ignore) == "texted 1"
    assert "chua ai tiep nhan" in gateway.taken[0].text


def test_an_address_is_good_for_one_call_and_an_hour_and_cannot_be_made_up() -> None:
    call = Call("F20261122-020000-3FA9C1", "ab12", "Một", 1_000)
    text = calls.token(SECRET, call)
    assert calls.read(SECRET, text, 999.0) == call
    body, _, signature = text.partition(".")
    for wrong in ("", "x", body, f"{body}.", f"{body}A.{signature}", f"{body}.{signature[:-1]}0", f".{signature}", "é.é"):
        with pytest.raises(Refused, match="bad_signature"):
            calls.read(SECRET, wrong, 0.0)
    with pytest.raises(Refused, match="bad_signature"):
        calls.read("another secret of ours", text, 0.0)
    with pytest.raises(Refused, match="expired"):
        calls.read(SECRET, text, 1_001.0)


def test_settings_say_everything_that_is_wrong_with_a_gateway() -> None:
    receiver = {"kind": "voice", "name": "v", "url": "ftp://x", "callback_secret": "0123456789abcdef", "answer_matches": "("}
    document = {
        "data": "d",
        "receivers": [receiver | {"body": {"to": "{nummer}", "more": {"text": ["{text}"]}}, "format": "form"}],
    }
    with pytest.raises(ConfigError) as caught:
        check(document, "f")
    said = {(problem.path.rpartition(".")[2], problem.reason.split(";")[0].split(":")[0]) for problem in caught.value.problems}
    assert said == {
        ("url", "must begin with https"),
        ("body", "{nummer} is no field"),
        ("body", "{number} is missing"),
        ("body", "{callback_url} is missing"),
        ("body", "a form holds texts alone"),
        ("answer_matches", "is no regular expression"),
    }
    assert "0123456789abcdef" not in repr(VoiceReceiver(name="v", url="x", body={}, callback_secret="0123456789abcdef"))
