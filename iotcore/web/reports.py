"""The after-action report of an incident, for whoever may see its area.

GET /api/v1/incidents/<incident>/report.pdf      also of one that has not ended yet
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from quart import Quart, Response

from iotcore.clock import Clock
from iotcore.journal import objectives
from iotcore.journal.database import Place
from iotcore.journal.review import Devices, Review
from iotcore.registry.database import Database
from iotcore.registry.directory import Directory
from iotcore.registry.rights import Right
from iotcore.registry.stood import at_premises
from iotcore.web.door import Door, visiting
from iotcore.web.incident_paper import Facts, drawn
from iotcore.web.press import Made, Press, named, saved
from iotcore.web.problem import problem
from iotcore.web.screen import Screen

ACTION = "report.incident"


@dataclass(frozen=True, slots=True)
class IncidentReports:
    """`premises(incident)` says where it burned, "" for an unknown one; `look(incident, devices)` reads the journal."""

    premises: Callable[[str], Awaitable[str]]
    look: Callable[[str, Devices], Awaitable[Review | None]]
    directory: Callable[[], Directory]
    database: Database
    press: Press
    journal: Place
    clock: Clock

    def add(self, app: Quart, door: Door, _: Screen) -> None:
        """Declare the route."""

        async def report(incident: str) -> Response:
            pdf = await self.made(incident, visiting().by)
            if pdf is None:
                return problem(404, "unknown_incident", "there is no such incident")
            return saved(pdf, f"{incident}.pdf")

        door.route(app, "/api/v1/incidents/<incident>/report.pdf", report, right=Right.SEE, of=self._place)

    async def made(self, incident: str, by: str) -> bytes | None:
        """The signed report; None for an unknown incident. Raises StoreError, StartError."""
        directory, premises = self.directory(), await self.premises(incident)
        devices = [one.device for one in directory.devices.values() if one.premises == premises]
        review = await self.look(incident, devices) if premises else None
        if review is None:
            return None
        now_ms = self.clock.wall_ms()
        until_ms = now_ms if review.closed_ms is None else review.closed_ms
        async with self.database.reading() as db:
            stood = await at_premises(db, premises, review.notice.rule, review.received_ms, until_ms)
        judged = objectives.judge(review, now_ms)
        facts = Facts(review, stood, judged, directory, named(self.journal), by, now_ms)
        return await self.press.paper(lambda both: drawn(facts, both), Made(ACTION, incident, by, review.notice.address))

    async def _place(self, arguments: Mapping[str, Any]) -> Collection[str] | None:
        premises = await self.premises(arguments["incident"])
        return self.directory().areas_of(premises) if premises else None
