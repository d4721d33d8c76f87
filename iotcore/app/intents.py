"""What people want of the fire lane, applied in the order in which they asked, each once, also after a kill."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, NamedTuple, TypeVar, cast

import msgspec

from iotcore.alarms.engine import Engine
from iotcore.alarms.lane import FireLane
from iotcore.dispatch.outbox import Dispatcher
from iotcore.errors import Refused
from iotcore.journal import acts, cad, parked, retry, shelf
from iotcore.journal.database import Connection
from iotcore.journal.journal import Journal
from iotcore.journal.quarantine import Row, Wanted
from iotcore.journal.records import Severity
from iotcore.off_loop import OffLoop, in_a_thread
from iotcore.process.follow import Follower
from iotcore.registry.records import Intent

log = logging.getLogger(__name__)

INTENT_CURSOR = "intent"
T = TypeVar("T")


class Intents:
    """Applies what people want of the fire lane, and remembers how far it came.

    Whoever is stopped in the middle applies the same intent again: all that is done of it is done once.
    """

    def __init__(
        self,
        lane: FireLane,
        follower: Follower,
        engine: Engine,
        journal: Journal,
        dispatcher: Dispatcher,
        *,
        pressed: Callable[[str, acts.Said], None] = lambda *_: None,
        off_loop: OffLoop = in_a_thread,
        drill: Callable[[Intent], Awaitable[None]] | None = None,
    ) -> None:
        self._lane = lane
        self._follower = follower
        self._engine = engine
        self._journal = journal
        self._dispatcher = dispatcher
        self._off_loop = off_loop
        self._drill = drill
        self._pressed = pressed  # is told of each call in which a key was pressed

    async def __call__(self, intent: Intent) -> None:
        if intent.kind in {"send", "withhold"}:
            decision: Literal["send", "drop"] = "send" if intent.kind == "send" else "drop"
            await self._off_loop(lambda: parked.decide(self._journal, intent.key, decision, intent.by))
            self._dispatcher.wake()
        elif intent.kind in {"retry", "drop"}:
            await self._quarantine(intent)
        else:
            await self._act(intent)
        await self._off_loop(lambda: self._journal.move_cursor(INTENT_CURSOR, intent.id))

    async def _quarantine(self, intent: Intent) -> None:
        if (wanted := retry.asked("fire", intent.key)) is not None:
            answer = await retry.carry_out(cast("retry.Verb", intent.kind), wanted, self)
            await self._off_loop(lambda: self._journal.answer(intent.id, msgspec.json.encode(answer).decode()))

    async def _act(self, intent: Intent) -> None:
        """An act on incidents or alarms. What the journal refuses is said in the log: it must not hold up the next."""
        try:
            if intent.kind == "reset" and asked(intent.key).incident:
                await self._reset(intent)
            elif intent.kind == "drill":
                if self._drill is not None:
                    await self._drill(intent)
            else:
                await self._off_loop(lambda: apply(self._journal, intent))
                self._dispatcher.wake()
                if intent.kind == "owner" and (call := intent.key.partition("/call:")[2]):
                    self._pressed(call, _body(intent, OwnerSays).said)
        except Refused as refused:
            log.warning("%s of %s, asked for by %s, is refused: %s", intent.kind, intent.key, intent.by, refused)

    async def rows(self, wanted: Wanted, limit: int, after: int) -> list[Row]:
        return await self._off_loop(lambda: self._journal.quarantined(wanted, limit, after))

    async def drop(self, wanted: Wanted) -> int:
        return await self._off_loop(lambda: self._journal.drop_quarantined(wanted))

    async def retry(self, rows: Sequence[Row], answer: retry.Answer) -> None:
        await self._lane.retry(rows, answer)

    async def _reset(self, intent: Intent) -> None:
        premises = await self._off_loop(lambda: self._journal.premises_of(intent.key))
        devices = [b.device for b in self._follower.directory.devices.values() if (b.premises or b.device) == premises]
        await self._off_loop(lambda: self._journal.reset(intent.key, devices, intent.by, self._journal.now_ms()))
        closed = await self._off_loop(lambda: self._is_closed(intent.key))
        if premises and closed:  # by whichever process came first
            self._lane.closed(premises, devices)
            self._dispatcher.wake()

    def _is_closed(self, incident: str) -> bool:
        with self._journal.reading() as connection:
            row = connection.execute("SELECT 1 FROM incident WHERE id = ? AND state = 'closed'", (incident,)).fetchone()
        return row is not None


class Asked(NamedTuple):
    """What an act is about: a whole incident, or one alarm by its number."""

    incident: str
    alarm: int


def asked(key: str) -> Asked:
    """What the key of an intent names; behind an @ stands what somebody saw when they asked."""
    incident, _, number = key.partition("@")[0].partition("/")
    if not number:
        return Asked(incident, 0)
    return Asked("", int(number) if number.isdecimal() else 0)


class Shelving(msgspec.Struct, frozen=True):
    """What is put aside, until when (ms UTC), and why."""

    device: str
    rule: str
    until_ms: float = 0.0
    reason: str = ""


class OwnerSays(msgspec.Struct, frozen=True):
    """The owner's answer, and how it came: link, sms or voice."""

    said: acts.Said
    how: str = ""


def apply(journal: Journal, intent: Intent) -> None:
    """Carry an act out in the journal, which does it once however many processes do this. Raises Refused or StoreError."""
    about, at_ms = asked(intent.key), journal.now_ms()
    with journal.writing() as connection:
        if intent.kind == "acknowledge" and about.alarm:
            acts.acknowledge_alarm(connection, about.alarm, intent.by, at_ms)
        elif intent.kind == "acknowledge":
            acts.acknowledge(connection, journal.now(), about.incident, intent.by, at_ms)
        elif intent.kind == "silence":
            acts.silence(connection, about.incident, intent.by, at_ms)
        elif intent.kind == "reset":
            acts.reset_alarm(connection, about.alarm, intent.by, at_ms)
        elif intent.kind == "owner":
            said = _body(intent, OwnerSays)
            acts.owner_said(connection, intent.key.partition("/")[0], said.said, f"{intent.by} ({said.how})", at_ms)
        elif intent.kind == "cad":
            receiver = intent.key.partition("/cad:")[2].partition(":")[0]
            cad.apply(connection, receiver, _body(intent, cad.Update), at_ms)
        elif intent.kind == "shelve":
            one = _body(intent, Shelving)
            put = shelf.Shelved(one.device, one.rule, one.until_ms, intent.by, one.reason, at_ms)
            shelf.shelve(connection, put, _severity(connection, one))
        elif intent.kind == "unshelve":
            one = _body(intent, Shelving)
            shelf.take_back(connection, one.device, one.rule, at_ms)


def _body(intent: Intent, of: type[T]) -> T:
    try:
        return msgspec.json.decode(intent.body, type=of)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Refused("bad_body", str(error)) from error


def _severity(connection: Connection, one: Shelving) -> Severity:
    """Of the alarm that stands; raises Refused where none does."""
    row = connection.execute(
        "SELECT severity FROM alarm WHERE device = ? AND rule = ? AND state = 'active'", (one.device, one.rule)
    ).fetchone()
    if row is None:
        raise Refused("no_alarm", f"no alarm {one.rule!r} of {one.device!r} stands")
    severity: Severity = row[0]
    return severity
