"""Alarms that stand without an incident: troubles, supervisory, pre-alarms, and those of what is disabled; and acts on them.

GET  /alarms    GET /api/v1/alarms
POST /alarms/<number>/acknowledge | reset | shelve | unshelve       also under /api/v1; shelve: fields hours, reason
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from quart import Quart, Response, abort, request

from iotcore.clock import Clock
from iotcore.errors import Refused, StoreError
from iotcore.journal.case import Alarm
from iotcore.journal.shelf import LONGEST_MS
from iotcore.registry.directory import Directory
from iotcore.registry.records import IntentKind
from iotcore.registry.rights import Right
from iotcore.web.cases import DOWN, UNAVAILABLE
from iotcore.web.door import Door, Scope, visiting
from iotcore.web.given import done, given, number, refused
from iotcore.web.history import answer
from iotcore.web.screen import Screen

HOUR_MS = 3_600_000.0
REASON_LENGTH = 200
FIRE = "alarm"
ACTS: dict[IntentKind, Right] = {
    "acknowledge": Right.ACKNOWLEDGE,
    "reset": Right.RESET,
    "shelve": Right.SHELVE,
    "unshelve": Right.SHELVE,
}


class Intend(Protocol):
    """Writes an intent (`registry.store`)."""

    def __call__(self, kind: IntentKind, key: str, by: str, address: str = "", body: str = "") -> Awaitable[int]:
        """The intent's id."""


@dataclass(frozen=True, slots=True)
class AlarmPages:
    """`standing()` and `alarm(number)` read the journal."""

    standing: Callable[[], Awaitable[Sequence[Alarm]]]
    alarm: Callable[[int], Awaitable[Alarm | None]]
    directory: Callable[[], Directory]
    intend: Intend
    clock: Clock

    def add(self, app: Quart, door: Door, screen: Screen) -> None:
        """Declare the routes."""

        async def page() -> Response:
            devices = self.directory().devices
            seen = await self._seen()
            titles = {one.device: devices[one.device].title for one in seen if one.device in devices}
            return screen.page("alarms.html", alarms=seen, titles=titles)

        async def document() -> Response:
            return answer({"alarms": [msgspec.to_builtins(one) for one in await self._seen()]})

        def act(kind: IntentKind) -> Callable[[int], Awaitable[Response]]:
            async def asked(number: int) -> Response:
                return await self._act(kind, number)

            return asked

        door.route(app, "/alarms", page, right=Right.SEE, of=Scope.FILTERED)
        door.route(app, "/api/v1/alarms", document, right=Right.SEE, of=Scope.FILTERED)
        for kind, right in ACTS.items():
            for prefix in ("", "/api/v1"):
                path = f"{prefix}/alarms/<int:number>/{kind}"
                door.route(app, path, act(kind), right=right, of=self._place, methods=["POST"])

    async def _act(self, kind: IntentKind, number: int) -> Response:
        found = await self.alarm(number)
        if found is None:
            return refused(Refused("unknown_alarm", "there is no such alarm"))
        try:
            key, body = await self._said(kind, found)
            intent = await self.intend(kind, key, visiting().by, request.remote_addr or "?", body)
        except Refused as why:
            return refused(why)
        except StoreError:
            abort(UNAVAILABLE, DOWN)
        return done({"intent": intent}, "/alarms", 202)

    async def _said(self, kind: IntentKind, found: Alarm) -> tuple[str, str]:
        """Key and body of the intent; raises Refused for what the fire lane would refuse."""
        if kind in {"acknowledge", "reset"}:
            if kind == "reset" and found.severity == FIRE:
                raise Refused("fire", "a fire ends with its incident")
            return f"alarm/{found.id}", ""
        if found.severity == FIRE:
            raise Refused("fire", "a fire is never shelved; a point that is out of order is disabled")
        now_ms = self.clock.wall_ms()
        document: dict[str, Any] = {"device": found.device, "rule": found.rule}
        if kind == "shelve":
            fields = await given()
            span_ms, reason = number(fields, "hours", 0.0) * HOUR_MS, str(fields.get("reason", "")).strip()
            if not 0.0 < span_ms <= LONGEST_MS:
                raise Refused("too_long", f"an alarm is shelved for up to {LONGEST_MS / HOUR_MS:g} hours")
            if not 0 < len(reason) <= REASON_LENGTH:
                raise Refused("no_reason", f"say why, in 1 to {REASON_LENGTH} characters")
            document |= {"until_ms": now_ms + span_ms, "reason": reason}
        return f"{found.device}/{found.rule}@{now_ms:.0f}", json.dumps(document, ensure_ascii=False)

    async def _seen(self) -> list[Alarm]:
        directory, visitor = self.directory(), visiting()
        return [one for one in await self.standing() if visitor.may(Right.SEE, self._areas(directory, one))]

    async def _place(self, arguments: Mapping[str, Any]) -> Collection[str] | None:
        found = await self.alarm(arguments["number"])
        return None if found is None else self._areas(self.directory(), found)

    @staticmethod
    def _areas(directory: Directory, one: Alarm) -> Collection[str]:
        binding = directory.devices.get(one.device)
        return directory.areas_of(binding.premises if binding is not None else one.premises)
