"""`iotcore drill …`: ask for a drill of a premises, and see what drills have proved."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

from iotcore.app import common
from iotcore.clock import SystemClock
from iotcore.commands import moments, office, who
from iotcore.errors import Refused
from iotcore.journal import drills
from iotcore.journal.database import UNREADABLE, connect_readonly, is_there
from iotcore.journal.drills import Drill, Source
from iotcore.settings import Settings
from iotcore.web.drills import plain

NAME = "drills"
REMEDY = "See why with `iotcore drill list PREMISES`, mend it, then run one: `iotcore drill start PREMISES`."
NAMED = 5


async def start(settings: Settings, premises: str, source: Source) -> str:
    """Ask the fire process for a drill; its id. Raises Refused `unknown_premises` or `drill_waits`."""
    async with who.opened(settings) as desk, office.opened(settings) as registry:
        directory = await registry.directory(common.specs_of(settings))
        if premises not in directory.premises:
            raise Refused("unknown_premises", f"no premises {premises!r} is registered")
        if is_there(settings.journal_place):
            with closing(connect_readonly(settings.journal_place)) as connection:
                if why := drills.standing(connection, premises).busy:
                    raise Refused("drill_waits", f"it cannot begin now: {why}")
        id_ = drills.drill_id(premises, SystemClock().wall_ms())
        await registry.intent("drill", id_, desk.by, body=json.dumps({"premises": premises, "source": source}))
        return id_


def listed(settings: Settings, premises: str) -> list[Drill]:
    """The newest drills of a premises, or of all."""
    if not is_there(settings.journal_place):
        return []
    with closing(connect_readonly(settings.journal_place)) as connection:
        return drills.of_premises(connection, premises) if premises else drills.latest(connection)


def documents(found: list[Drill]) -> list[dict[str, Any]]:
    """For programs: all that is kept; ms UTC."""
    return [plain(one) for one in found]


def rows(found: list[Drill]) -> list[dict[str, Any]]:
    """For people: a row each, times of the city's clock."""
    return [
        {
            "id": one.id,
            "premises": one.premises,
            "at": moments.local(one.asked_ms),
            "by": one.asked_by,
            "source": one.source,
            "point": f"{one.device}/{one.point}" if one.device else "",
            "state": one.state,
            "durable_ms": one.latency_ms,
            "paths": ", ".join(_way(one, way) for way in one.deliveries),
            "reason": one.reason,
        }
        for one in found
    ]


def examine(settings: Settings) -> tuple[list[str], str]:
    """For `iotcore doctor`: the premises whose drill was missed, and what to say of it."""
    missed: list[str] = []
    if is_there(settings.journal_place):
        try:
            with closing(connect_readonly(settings.journal_place)) as connection:
                missed = drills.missed(connection)
        except UNREADABLE:  # what is wrong with it, the journal's own check says
            missed = []
    if not missed:
        return [], "none was missed"
    more = f" and {len(missed) - NAMED} more" if len(missed) > NAMED else ""
    return missed, f"none was passed in time at {', '.join(missed[:NAMED])}{more}"


def _way(drill: Drill, way: drills.DrillDelivery) -> str:
    took_ms = drill.delivered_ms(way)
    return f"{way.path}: {took_ms:.0f} ms" if took_ms is not None else f"{way.path}: {way.reason or way.state}"
