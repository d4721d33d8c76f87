"""`iotcore incident …`: one incident whole, and the acts on it."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from iotcore.clock import SystemClock
from iotcore.commands import acting
from iotcore.errors import Refused
from iotcore.journal import case
from iotcore.journal.database import connect_readonly, is_there
from iotcore.registry.records import IntentKind
from iotcore.settings import Settings
from iotcore.web.cases import plain


def show(settings: Settings, incident: str) -> dict[str, Any]:
    """Everything about an incident. Raises Refused `unknown_incident`."""
    found = None
    if is_there(settings.journal_place):
        with closing(connect_readonly(settings.journal_place)) as connection:
            found = case.read(connection, incident, SystemClock().wall_ms())
    if found is None:
        raise Refused("unknown_incident", f"there is no incident {incident!r}; `iotcore incidents` lists them")
    return plain(found)


async def act(settings: Settings, kind: IntentKind, incident: str, alarm: int, by: str) -> None:
    """Ask the fire lane for an act on an incident, or on one alarm of it. Raises Refused."""
    known = show(settings, incident)
    if alarm and all(one["id"] != alarm for one in known["alarms"]):
        raise Refused("unknown_alarm", f"incident {incident} has no alarm {alarm}")
    await acting.intend(settings, kind, f"{incident}/{alarm}" if alarm else incident, by)
