"""The drills of a month as a paper, for whoever may see the area.

GET /api/v1/drills/report.pdf?month=2026-11&area=A       without a month the last one; without an area all that may be seen
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from quart import Quart, Response, request

from iotcore.clock import Clock
from iotcore.errors import Refused, StoreError
from iotcore.journal import drill_month
from iotcore.journal.database import UNREADABLE, Place, connect_readonly, is_there
from iotcore.journal.drill_month import Month
from iotcore.registry.directory import Directory
from iotcore.registry.rights import Right
from iotcore.schedule import ZONE
from iotcore.web.bilingual import Both
from iotcore.web.door import Door, Scope, visiting
from iotcore.web.drill_paper import Facts, drawn
from iotcore.web.given import refused
from iotcore.web.press import Made, Press, named, saved
from iotcore.web.screen import Screen

ACTION = "report.drills"
MS_PER_S = 1000.0


@dataclass(frozen=True, slots=True)
class DrillReports:
    """Read from the journal by a connection of its own: a long month keeps no other page waiting."""

    directory: Callable[[], Directory]
    press: Press
    journal: Place
    clock: Clock

    def add(self, app: Quart, door: Door, _: Screen) -> None:
        """Declare the route."""

        async def report() -> Response:
            area, month, visitor = request.args.get("area", ""), request.args.get("month", ""), visiting()
            try:
                pdf = await self.made(month, area, lambda place: visitor.may(Right.SEE, place), visitor.by)
            except Refused as why:
                return refused(why)
            return saved(pdf, f"drills-{month or last_month(self.clock.wall_ms())}{f'-{area}' if area else ''}.pdf")

        door.route(app, "/api/v1/drills/report.pdf", report, right=Right.SEE, of=Scope.FILTERED)

    async def made(self, month: str, area: str, may_see: Callable[[Collection[str]], bool], by: str) -> bytes:
        """The signed report of a month ("": the last one) over what lies in an area ("": all) and may be seen there.

        Raises:
            Refused: `bad_month`, `unknown_area`.
            StoreError: the journal or the registry does not answer, or too many wait for a paper.
        """
        directory, now_ms = self.directory(), self.clock.wall_ms()
        name = month or last_month(now_ms)
        start_ms, end_ms = bounds(name)
        if area and (area not in directory.areas or not may_see(tuple(directory.upwards(area)))):
            raise Refused("unknown_area", f"no area {area!r} is registered, or you may not see it")
        within = {one: directory.areas_of(one) for one in directory.premises}
        premises = frozenset(one for one, areas in within.items() if (not area or area in areas) and may_see(areas))
        title = directory.areas[area].name if area else ""

        def draw(both: Both) -> bytes:
            found = _read(self.journal, start_ms, end_ms, premises)
            facts = Facts(found, name, start_ms, end_ms, premises, title, directory, named(self.journal), by, now_ms)
            return drawn(facts, both)

        return await self.press.paper(draw, Made(ACTION, f"{name}{f' {area}' if area else ''}", by, title))


def bounds(month: str) -> tuple[float, float]:
    """A month of Vietnam's time as ms UTC, its end not included; raises Refused `bad_month`."""
    found = re.fullmatch(r"(2\d{3})-(0[1-9]|1[0-2])", month)
    if found is None:
        raise Refused("bad_month", f"{month[:20]!r} is no month; write it as 2026-11")
    year, number = int(found[1]), int(found[2])
    start, end = datetime(year, number, 1, tzinfo=ZONE), datetime(year + number // 12, number % 12 + 1, 1, tzinfo=ZONE)
    return start.timestamp() * MS_PER_S, end.timestamp() * MS_PER_S


def last_month(now_ms: float) -> str:
    """The month before the one that it is in Vietnam."""
    now = datetime.fromtimestamp(now_ms / MS_PER_S, ZONE)
    return f"{now.year - 1}-12" if now.month == 1 else f"{now.year}-{now.month - 1:02}"


def _read(journal: Place, start_ms: float, end_ms: float, premises: frozenset[str]) -> Month:
    if not is_there(journal):
        return Month()
    try:
        with closing(connect_readonly(journal)) as connection:
            return drill_month.read(connection, start_ms, end_ms, premises)
    except UNREADABLE as error:
        raise StoreError(f"the journal cannot be read now: {error}") from error
