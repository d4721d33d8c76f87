"""An incident whole: its life, its story, all its points, who was told, what the owner said; and the acts on it.

GET  /incidents/<incident>            GET  /api/v1/incidents/<incident>
POST /incidents/<incident>/silence    POST /api/v1/incidents/<incident>/acknowledge | silence | reset
POST /incidents/<incident>/alarms/<number>/acknowledge                       also under /api/v1
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from quart import Quart, Response, abort, request

from iotcore.clock import Clock
from iotcore.errors import Refused, StoreError
from iotcore.journal.case import Case
from iotcore.registry.directory import Directory
from iotcore.registry.records import IntentKind
from iotcore.registry.rights import Right
from iotcore.web.door import Door, visiting
from iotcore.web.given import done, refused
from iotcore.web.history import answer
from iotcore.web.out import Out
from iotcore.web.problem import problem
from iotcore.web.screen import Screen

UNAVAILABLE = 503
DOWN = "the registry does not answer; try again, and tell the fire service by telephone"
RIGHTS: dict[IntentKind, Right] = {"acknowledge": Right.ACKNOWLEDGE, "silence": Right.SILENCE, "reset": Right.RESET}
Intend = Callable[[IntentKind, str, str, str], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class CasePages:
    """`case(incident)` and `premises(incident)` read the journal; `intend` writes what is asked for."""

    case: Callable[[str], Awaitable[Case | None]]
    premises: Callable[[str], Awaitable[str]]
    directory: Callable[[], Directory]
    intend: Intend
    out: Out
    clock: Clock

    def add(self, app: Quart, door: Door, screen: Screen) -> None:
        """Declare the routes."""

        async def page(incident: str) -> Response:
            return screen.page("case.html", **await self._shown(incident))

        async def details(incident: str) -> Response:
            return screen.page("case_details.html", **await self._shown(incident))

        async def document(incident: str) -> Response:
            found = await self.case(incident)
            return problem(404, "unknown_incident", "there is no such incident") if found is None else answer(plain(found))

        def act(kind: IntentKind) -> Callable[[str], Awaitable[Response]]:
            async def asked(incident: str) -> Response:
                return await self._act(kind, incident)

            return asked

        door.route(app, "/incidents/<incident>", page, right=Right.SEE, of=self._place)
        door.route(app, "/incidents/<incident>/details", details, right=Right.SEE, of=self._place)
        door.route(app, "/api/v1/incidents/<incident>", document, right=Right.SEE, of=self._place)
        for kind, right in RIGHTS.items():
            door.route(app, f"/api/v1/incidents/<incident>/{kind}", act(kind), right=right, of=self._place, methods=["POST"])
        silence = "/incidents/<incident>/silence"
        door.route(app, silence, act("silence"), right=Right.SILENCE, of=self._place, methods=["POST"])
        one = "/incidents/<incident>/alarms/<int:number>/acknowledge"
        for prefix in ("", "/api/v1"):
            door.route(app, prefix + one, self._acknowledge_one, right=Right.ACKNOWLEDGE, of=self._place, methods=["POST"])

    async def _act(self, kind: IntentKind, incident: str) -> Response:
        found = await self.case(incident)
        if found is None:
            return refused(Refused("unknown_incident", "there is no such incident"))
        if kind == "reset" and found.line.acknowledged_ms is None:
            return refused(Refused("not_acknowledged", "acknowledge it first"))
        return await self._asked(kind, incident, incident)

    async def _acknowledge_one(self, incident: str, number: int) -> Response:
        found = await self.case(incident)
        if found is None or all(one.id != number for one in found.alarms):
            return refused(Refused("unknown_alarm", "the incident has no such alarm"))
        return await self._asked("acknowledge", f"{incident}/{number}", incident)

    async def _asked(self, kind: IntentKind, key: str, incident: str) -> Response:
        try:
            number = await self.intend(kind, key, visiting().by, request.remote_addr or "?")
        except StoreError:
            abort(UNAVAILABLE, DOWN)
        return done({"intent": number}, f"/incidents/{incident}", 202)

    async def _shown(self, incident: str) -> dict[str, Any]:
        found = await self.case(incident)
        if found is None:
            abort(404, "no such incident")
        devices = self.directory().devices
        titles = {one.device: devices[one.device].title for one in found.alarms if one.device in devices}
        points = {
            f"{one.device}/{one.point}": devices[one.device].spec.points[one.point].title
            for one in found.alarms
            if one.device in devices and one.point in devices[one.device].spec.points
        }
        return {"case": found, "titles": titles, "points": points, "out": self.out.of_premises(found.line.premises)}

    async def _place(self, arguments: Mapping[str, Any]) -> Collection[str] | None:
        premises = await self.premises(arguments["incident"])
        return self.directory().areas_of(premises) if premises else None


def plain(case: Case) -> dict[str, Any]:
    """For programs: the incident with all that belongs to it; ms UTC."""
    found: dict[str, Any] = msgspec.to_builtins(case)
    line = found.pop("line")
    return {**line, **found, "latencies_ms": case.line.latencies_ms()}
