"""Drills of a premises: what they proved, and asking for one, on its page and as JSON.

GET  /api/v1/premises/<premises>/drills                when the next is due, whether one was missed, the newest runs; ms UTC
POST /api/v1/premises/<premises>/drills                field: source, `simulated` (at once) or `real` (a detector is pressed)
POST /premises/<premises>/drills                       the same of the form on the page

An act is an intent: the fire process begins the drill, and its row says within a second what becomes of it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast, get_args

import msgspec
from quart import Quart, Response, abort, request

from iotcore.clock import Clock
from iotcore.errors import Refused, StoreError
from iotcore.journal import drills
from iotcore.journal.drills import Drill, Source, Standing
from iotcore.registry.directory import Directory
from iotcore.registry.records import IntentKind
from iotcore.registry.rights import Right
from iotcore.web.door import Door, visiting
from iotcore.web.given import done, given, refused
from iotcore.web.history import answer
from iotcore.web.outages import place_of
from iotcore.web.screen import Screen

UNAVAILABLE = 503
DOWN = "the registry does not answer; try again"


class Intend(Protocol):
    """Writes an intent; its number."""

    def __call__(self, kind: IntentKind, key: str, by: str, address: str, body: str) -> Awaitable[int]: ...


@dataclass(frozen=True, slots=True)
class DrillPages:
    """`standing(premises)` reads the journal; `intend` writes what is asked for."""

    standing: Callable[[str], Awaitable[Standing]]
    directory: Callable[[], Directory]
    intend: Intend
    clock: Clock

    def add(self, app: Quart, door: Door, screen: Screen) -> None:  # noqa: ARG002 - as every part's
        """Declare the routes."""
        path = "/premises/<premises>/drills"
        door.route(app, f"/api/v1{path}", self._document, right=Right.SEE, of=self._place)
        for prefix in ("", "/api/v1"):
            door.route(app, prefix + path, self._ask, right=Right.COMMISSION, of=self._place, methods=["POST"])

    async def _document(self, premises: str) -> Response:
        plan = self.directory().response(premises)
        every_days = plan.drills.every_days if plan.drills is not None else None
        found = await self.standing(premises)
        rows = [plain(one) for one in found.drills]
        return answer(
            {"premises": premises, "every_days": every_days, "due_ms": found.due_ms, "missed": found.missed, "drills": rows}
        )

    async def _ask(self, premises: str) -> Response:
        fields = await given()
        source = str(fields.get("source", "simulated"))
        if source not in get_args(Source):
            return refused(Refused("bad_source", f"{source!r}; there are: {', '.join(get_args(Source))}"))
        if why := (await self.standing(premises)).busy:
            return refused(Refused("drill_waits", f"it cannot begin now: {why}"))
        try:
            id_ = drills.drill_id(premises, self.clock.wall_ms())
            body = json.dumps({"premises": premises, "source": cast("Source", source)})
            intent = await self.intend("drill", id_, visiting().by, request.remote_addr or "?", body)
        except Refused as why_not:
            return refused(why_not)
        except StoreError:
            abort(UNAVAILABLE, DOWN)
        return done({"drill": id_, "intent": intent}, f"/premises/{premises}", 202)

    def _place(self, arguments: Mapping[str, Any]) -> Collection[str] | None:
        return place_of(self.directory(), arguments["premises"])


def plain(drill: Drill) -> dict[str, Any]:
    """For programs: a drill with what it took, ms."""
    found: dict[str, Any] = msgspec.to_builtins(drill)
    for shown, one in zip(found["deliveries"], drill.deliveries, strict=True):
        shown["took_ms"] = drill.delivered_ms(one)
    return {**found, "latency_ms": drill.latency_ms}
