"""Text messages and calls through the HTTP gateway of a telephone company, as its own manual wants to be asked.

    sms     every number at once, in order; a retry asks for those alone that the gateway has not taken
    voice   one number after the other, until somebody confirms:
            ask the gateway ─► call ─► key 1: confirmed, done   │ key 2, or no key within answer_s: the next number
                                 └ the gateway tells us by the signed address that it was given for this call

Which key was pressed comes by the web process and an intent to every fire process; the one that waits for it goes on.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote, urlencode

import msgspec

from iotcore.clock import Clock
from iotcore.dispatch import calls, texts
from iotcore.dispatch.egress import Egress
from iotcore.dispatch.post import HttpLink, refusal
from iotcore.dispatch.telegram import clean
from iotcore.errors import DeliveryError
from iotcore.journal.facts import Number
from iotcore.journal.records import Notice, OutboxRow
from iotcore.settings_channels import SmsReceiver, VoiceReceiver

REMEMBERED = 1_000  # messages of which some numbers have theirs already
ROUNDS = 3  # all numbers are called so often while nobody answers
NO_ANSWER = "no answer"
CALL_LIFE_S = 3_600  # a key that is pressed later than this is nobody's answer to a fire

Said = Literal["confirmed", "denied"]
Fields = Mapping[str, str]


class SmsChannel:
    """Sends text messages; implements `iotcore.dispatch.outbox.Channel`."""

    def __init__(self, receiver: SmsReceiver, clock: Clock) -> None:
        self._receiver = receiver
        self._link = HttpLink(clock, receiver.reply_timeout_s, Egress.of(receiver))
        self._done: OrderedDict[tuple[str, str, int], set[str]] = OrderedDict()

    async def send(self, row: OutboxRow, sent: Callable[[float], None]) -> str:
        """Text everybody of the premises' plan, in its order.

        Raises:
            DeliveryError: the gateway did not take it for somebody.
        """
        notice, receiver = row.notice, self._receiver
        if notice.event == "update" and not notice.escalated:
            return "not sent: updates are not texted"
        people = numbers(notice, "sms", receiver)
        told = row.incident, row.notice.event, row.part  # not the row's id: the emergency's outbox has its own
        done = self._done.setdefault(told, set())
        while len(self._done) > REMEMBERED:
            self._done.popitem(last=False)
        failures: list[tuple[Number, DeliveryError]] = []
        for one in people:
            if one.number in done:
                continue
            text = texts.sms(notice, one.language, marks=receiver.marks, segments=receiver.segments)
            try:
                await ask(self._link, receiver, fields(notice, one, text, receiver.secret, number=row.number), sent)
            except DeliveryError as error:
                failures.append((one, error))  # the others must not wait for one
            else:
                done.add(one.number)
        if failures:
            first = failures[0][1]
            who = ", ".join(one.name for one, _ in failures)
            raise DeliveryError(first.reason, f"{who}: {first.detail}", recoverable=any(one.recoverable for _, one in failures))
        self._done.pop(told, None)
        return f"texted {len(people)}" if people else "not sent: there is no number"

    async def close(self) -> None:
        """Close the connections."""
        await self._link.close()


class VoiceChannel:
    """Calls people; implements `iotcore.dispatch.outbox.Channel`. `answer_at`: where the gateway tells which key was pressed."""

    def __init__(self, receiver: VoiceReceiver, clock: Clock, answer_at: str) -> None:
        self._receiver = receiver
        self._clock = clock
        self._answer_at = answer_at
        self._link = HttpLink(clock, receiver.reply_timeout_s, Egress.of(receiver))
        self._waiting: dict[str, asyncio.Future[Said]] = {}

    async def send(self, row: OutboxRow, sent: Callable[[float], None]) -> str:
        """Call one after the other until somebody confirms. Whoever denies is heard, and the next is called all the same.

        Raises:
            DeliveryError: `nobody_confirmed`: somebody could not be called, or did not answer in one of `ROUNDS` rounds.
        """
        notice = row.notice
        if notice.event != "alarm" and not notice.escalated:
            return f"not called: {notice.event}"
        people = numbers(notice, "voice", self._receiver)
        if not people:
            return "not called: there is no number"
        heard: list[str] = []
        for one in people:
            said = await self._call(notice, one, row.number, sent)
            heard.append(f"{one.name}: {said}")
            if said == "confirmed":
                return "; ".join(heard)
        if all(one.endswith((": denied", f": {NO_ANSWER}")) for one in heard) and (
            row.attempts + 1 >= ROUNDS or not any(one.endswith(NO_ANSWER) for one in heard)
        ):
            return "; ".join(heard)  # everybody was called: whom to call next, the ladder of the premises says
        raise DeliveryError("nobody_confirmed", "; ".join(heard))

    def heard(self, call: str, said: Said) -> None:
        """A key was pressed in a call; nothing of ours, if it is not waited for here."""
        waiting = self._waiting.get(call)
        if waiting is not None and not waiting.done():
            waiting.set_result(said)

    async def close(self) -> None:
        """Close the connections."""
        await self._link.close()

    async def _call(self, notice: Notice, one: Number, number: int, sent: Callable[[float], None]) -> str:
        """What came of one call: confirmed, denied, no answer, or why there was none."""
        receiver, call = self._receiver, secrets.token_hex(8)
        expires_s = int(self._clock.wall_ms() / 1000.0) + CALL_LIFE_S
        token = calls.token(receiver.callback_secret, calls.Call(notice.incident, call, one.name, expires_s))
        said = fields(notice, one, texts.spoken(notice, one.language), receiver.secret, number=number)
        waiting = self._waiting[call] = asyncio.get_running_loop().create_future()
        try:
            await ask(self._link, receiver, {**said, "callback_url": f"{self._answer_at}/{token}"}, sent)
            return await asyncio.wait_for(waiting, receiver.answer_s)
        except TimeoutError:
            return NO_ANSWER
        except DeliveryError as error:
            return str(error)
        finally:
            del self._waiting[call]


def numbers(notice: Notice, by: Literal["sms", "voice"], receiver: SmsReceiver | VoiceReceiver) -> Sequence[Number]:
    """Whom to tell, in order: those of the premises' plan, else those of the settings."""
    planned = [one for one in notice.numbers if one.by == by]
    return planned or [Number(number, number, by, receiver.language) for number in receiver.numbers]


def fields(notice: Notice, one: Number, text: str, secret: str, *, number: int) -> dict[str, str]:
    """What the templates of a gateway may name. `id` is the same for each repeat of a message to one number."""
    return {
        "number": one.number,
        "name": clean(one.name),
        "text": text,
        "incident": notice.incident,
        "event": notice.event,
        "id": f"{notice.incident}-{notice.event}-{number}-{one.number.lstrip('+')}",
        "language": one.language,
        "secret": secret,
    }


async def ask(link: HttpLink, receiver: SmsReceiver | VoiceReceiver, said: Fields, sent: Callable[[float], None]) -> None:
    """One request to a gateway, by its templates; returns when its answer means success.

    Raises:
        DeliveryError: it did not; `gateway` for an answer that says no.
    """
    url = _filled(receiver.url, {name: quote(value, safe="") for name, value in said.items()})
    body, kind = None, ""
    if receiver.format == "json":
        body, kind = msgspec.json.encode(_filled(receiver.body, said)), "application/json"
    else:
        form = urlencode({name: _filled(value, said) for name, value in receiver.body.items()})
        if receiver.method == "GET":
            url += ("&" if "?" in url else "?") + form
        else:
            body, kind = form.encode(), "application/x-www-form-urlencoded"
    headers = {name: clean(_filled(value, said)) for name, value in receiver.headers.items()}
    if kind:
        headers.setdefault("Content-Type", kind)
    status, text = await link.ask(receiver.method, url, body, lambda: headers, sent)
    judge(receiver, status, text)


def judge(receiver: SmsReceiver | VoiceReceiver, status: int, text: bytes) -> None:
    """Whether an answer means success, as the settings say."""
    if (refused := refusal(status, text)) is not None:
        raise refused
    if status not in receiver.statuses:
        raise DeliveryError(f"http_{status}", "not one of the statuses of this receiver")
    if not receiver.answer_path and not receiver.answer_matches:
        return
    found = text.decode(errors="replace")
    if receiver.answer_path:
        try:
            found = _at(msgspec.json.decode(text), receiver.answer_path)
        except (msgspec.DecodeError, LookupError, ValueError, TypeError) as error:
            raise DeliveryError("not_an_answer", f"nothing at {receiver.answer_path}: {found[:200]}") from error
    if not re.search(receiver.answer_matches, found):
        raise DeliveryError("gateway", found[:200])


def _at(document: Any, path: str) -> str:
    """What stands at `result.0.code` of a JSON document, as text."""
    for step in path.split("."):
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document if isinstance(document, str) else msgspec.json.encode(document).decode()


def _filled(template: Any, said: Fields) -> Any:
    """A template with its fields filled in, once: what a value says is never a template itself."""
    if isinstance(template, str):
        return re.sub(r"\{(\w+)\}", lambda found: said.get(found[1], found[0]), template)
    if isinstance(template, dict):
        return {key: _filled(value, said) for key, value in template.items()}
    if isinstance(template, list):
        return [_filled(value, said) for value in template]
    return template
